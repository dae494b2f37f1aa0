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
  const servers = new Map<Contender, ServerProcess>();
  try {
    for (const contender of contenders)
      servers.set(contender, await startServer(contender.command(options.nodeOptions)));
    const rounds: Record<string, Measurement>[] = [];
    for (let round = 0; round < options.rounds; round++) {
      const results: Record<string, Measurement> = {};
      for (const [contender, server] of rotated([...servers], round)) {
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
    await Promise.all([...servers.values()].map((server) => server.stop()));
  }
}
