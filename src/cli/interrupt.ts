import type { ExitName } from "./exit-codes.ts";

/** Why a command is asked to end before it is done. */
export class Interrupted extends Error {
  readonly exit: ExitName;

  constructor(exit: ExitName) {
    super("interrupted");
    this.name = "Interrupted";
    this.exit = exit;
  }
}

/**
 * A repeat within this time, in milliseconds, is the same Ctrl-C: a terminal
 * sends it to npm and to us, and npm passes its own on.
 */
const sameSignalMs = 500;

/**
 * Calls `onSignal` at the first SIGINT or SIGTERM, and `onRepeat` at the next
 * one. Returns the cleanup.
 */
export function onInterrupt(
  onSignal: (exit: "interrupted" | "terminated") => void,
  onRepeat: (exit: "interrupted" | "terminated") => void,
): () => void {
  let firstMs: number | undefined;
  const listener = (signal: NodeJS.Signals): void => {
    const exit = signal === "SIGINT" ? "interrupted" : "terminated";
    if (firstMs === undefined) {
      firstMs = performance.now();
      onSignal(exit);
    } else if (performance.now() - firstMs > sameSignalMs) {
      onRepeat(exit);
    }
  };
  process.on("SIGINT", listener).on("SIGTERM", listener);
  return () => {
    process.off("SIGINT", listener).off("SIGTERM", listener);
  };
}
