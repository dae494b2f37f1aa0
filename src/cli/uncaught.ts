import { exitCodes } from "./exit-codes.ts";

/** How long the end after an uncaught error may take, in milliseconds; then the process exits all the same. */
const endTimeoutMs = 10_000;

/** What `onUncaught` returns. */
export interface Uncaught {
  /** Resolves at the first error that nothing caught. */
  readonly happened: Promise<void>;
  readonly count: number;
  /** Leaves such errors to Node again. */
  stop(): void;
}

/**
 * Calls `end` for each error that nothing caught, an unhandled rejection
 * included. What the program knows is not to be trusted from then on, so `end`
 * should save what it can. The process exits with 1 after 10 s if it is still
 * there by then.
 */
export function onUncaught(end: (error: unknown) => Promise<void>): Uncaught {
  const happened = Promise.withResolvers<undefined>();
  let count = 0;
  const exit = (): never => process.exit(exitCodes.failure.code);
  const listener = (error: unknown): void => {
    if (count++ === 0) setTimeout(exit, endTimeoutMs).unref();
    happened.resolve(undefined);
    end(error).catch(exit);
  };
  process.on("uncaughtException", listener);
  return {
    happened: happened.promise,
    get count() {
      return count;
    },
    stop() {
      process.off("uncaughtException", listener);
    },
  };
}
