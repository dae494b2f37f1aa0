import type { Measurement } from "./load-program.ts";
import type { ServerProcess } from "./server-process.ts";
import { rotated } from "./statistics.ts";

/** One that takes part in a case. */
export interface Entrant {
  readonly name: string;
  readonly start: () => Promise<ServerProcess>;
  /** Puts it under load, and measures it. */
  readonly load: (server: ServerProcess) => Promise<Measurement>;
}

/** One case with what each entrant did in each round. */
export interface CaseResult {
  readonly name: string;
  readonly rounds: readonly Readonly<Record<string, Measurement>>[];
}

export interface MeasureOptions {
  readonly rounds: number;
  readonly onProgress: (line: string) => void;
}

/**
 * Measures one case. Each entrant has a process for the whole case, idle while
 * the others are measured; they alternate within each round, in an order that
 * rotates from round to round.
 */
export async function measureCase(
  name: string,
  entrants: readonly Entrant[],
  options: MeasureOptions,
): Promise<CaseResult> {
  const servers = new Map<Entrant, ServerProcess>();
  try {
    const starting = entrants.map(async (entrant) => {
      servers.set(entrant, await entrant.start());
    });
    // All have started, or failed to, before any is stopped.
    const failed = (await Promise.allSettled(starting)).find((start) => start.status === "rejected");
    if (failed !== undefined) throw new Error("a server did not start", { cause: failed.reason });
    const rounds: Record<string, Measurement>[] = [];
    for (let round = 0; round < options.rounds; round++) {
      const results: Record<string, Measurement> = {};
      for (const entrant of rotated(entrants, round)) {
        const server = servers.get(entrant);
        if (server === undefined) continue;
        options.onProgress(`${name}, round ${round + 1} of ${options.rounds}: ${entrant.name}`);
        try {
          results[entrant.name] = await entrant.load(server);
        } catch (cause) {
          throw new Error(`${name} against ${entrant.name} failed`, { cause });
        }
      }
      rounds.push(results);
    }
    return { name, rounds };
  } finally {
    await Promise.all([...servers.values()].map((server) => server.stop()));
  }
}
