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

/** The signals that end a command, and the exits that they lead to. */
const exitOfSignal = { SIGINT: "interrupted", SIGTERM: "terminated", SIGHUP: "hungUp" } as const;
export type EndSignal = keyof typeof exitOfSignal;

/** Calls `onSignal` at the first of the signals, and `onRepeat` at the next one. Returns the cleanup. */
export function onInterrupt(
  signals: readonly EndSignal[],
  onSignal: (exit: ExitName) => void,
  onRepeat: (exit: ExitName) => void,
): () => void {
  let firstMs: number | undefined;
  const listener = (signal: NodeJS.Signals): void => {
    const exit = exitOfSignal[signal as EndSignal];
    if (firstMs === undefined) {
      firstMs = performance.now();
      onSignal(exit);
    } else if (performance.now() - firstMs > sameSignalMs) {
      onRepeat(exit);
    }
  };
  for (const signal of signals) process.on(signal, listener);
  return () => {
    for (const signal of signals) process.off(signal, listener);
  };
}
