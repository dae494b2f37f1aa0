import { caseName } from "./cases.ts";
import type { Case } from "./cases.ts";
import type { Contender } from "./contenders.ts";
import { runLoad } from "./load.ts";
import type { LoadOptions, Measurement } from "./load.ts";
import { startServer } from "./server-process.ts";
import type { ServerProcess } from "./server-process.ts";
import { rotated } from "./statistics.ts";

/** One case with what each contender did in each round. */
export interface CaseResult extends Case {
  readonly rounds: readonly Readonly<Record<string, Measurement>>[];
}

export interface MeasureOptions extends LoadOptions {
  readonly rounds: number;
  readonly nodeOptions: readonly string[];
  readonly onProgress: (line: string) => void;
}

/**
 * Measures one case. Each contender has a process for the whole case, idle
 * while the others are measured; they alternate within each round, in an order
 * that rotates from round to round.
 */
export async function measureCase(
  what: Case,
  contenders: readonly Contender[],
  options: MeasureOptions,
): Promise<CaseResult> {
  const servers: (readonly [Contender, ServerProcess])[] = [];
  try {
    const starting = contenders.map(async (contender) => {
      servers.push([contender, await startServer(contender.command(options.nodeOptions))]);
    });
    // All have started, or failed to, before any is stopped.
    const failed = (await Promise.allSettled(starting)).find((start) => start.status === "rejected");
    if (failed !== undefined) throw new Error("a server did not start", { cause: failed.reason });
    const ordered = contenders.flatMap((contender) => servers.filter(([its]) => its === contender));
    const rounds: Record<string, Measurement>[] = [];
    for (let round = 0; round < options.rounds; round++) {
      const results: Record<string, Measurement> = {};
      for (const [contender, server] of rotated(ordered, round)) {
        options.onProgress(`${caseName(what)}, round ${round + 1} of ${options.rounds}: ${contender.name}`);
        try {
          results[contender.name] = await runLoad(server, contender.token, what, options);
        } catch (error) {
          throw new Error(`${caseName(what)} against ${contender.name} failed`, { cause: error });
        }
      }
      rounds.push(results);
    }
    return { ...what, rounds };
  } finally {
    await Promise.all(servers.map(([, server]) => server.stop()));
  }
}
