import { guarded, raise } from "../async/guard.ts";
import type { OnUnexpected } from "../async/guard.ts";
import { jittered, maxTimerMs } from "../async/timers.ts";

export interface ConnectionAgeOptions {
  /** Milliseconds, as all that follow. Each connection's own is up to 10 % more or less. */
  readonly maxConnectionAge: number;
  readonly maxConnectionAgeGrace: number;
  /** Gets what the end of a connection fails with. Default: `raise`. */
  readonly onUnexpected?: OnUnexpected;
}

/** What happens to a connection that has reached its age, in this order. */
export interface ConnectionEnd {
  /** It takes no more calls. */
  retire(): void;
  /** The grace is over: its calls are ended, so that their clients are told. */
  endCalls(): void;
  close(): void;
}

/** How long ended calls may take to tell their clients before their connection is closed, in milliseconds. */
const farewellMs = 1000;

/** Begins with a new connection. Returns what is to be called when it has closed. */
export function followAge(
  { maxConnectionAge, maxConnectionAgeGrace, onUnexpected = raise }: ConnectionAgeOptions,
  connection: ConnectionEnd,
): () => void {
  let timer: NodeJS.Timeout | undefined;
  const fail = (error: unknown): void => {
    onUnexpected(error);
    connection.close();
  };
  const after = (ms: number, run: () => void): void => {
    timer = setTimeout(guarded(fail, run), Math.min(ms, maxTimerMs)).unref();
  };
  after(jittered(maxConnectionAge), () => {
    // Before the rest, which may find that the connection has closed.
    after(maxConnectionAgeGrace, () => {
      after(farewellMs, () => {
        connection.close();
      });
      connection.endCalls();
    });
    connection.retire();
  });
  return () => {
    clearTimeout(timer);
  };
}
