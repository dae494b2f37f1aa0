import type { Readable } from "node:stream";
import { raceSignal } from "../async/signals.ts";

/**
 * Yields what arrives until the input ends or the signal is aborted, whichever comes first. What has been read from the
 * system by then is still yielded.
 */
export async function* chunksUntil(input: Readable, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
  let wake = (): void => undefined;
  const onChange = (): void => {
    wake();
  };
  const events = ["readable", "end", "error", "close"] as const;
  for (const event of events) input.on(event, onChange);
  try {
    for (;;) {
      const isLast = signal.aborted;
      const changed = new Promise<void>((resolve) => (wake = resolve));
      const chunk = input.read() as Buffer | null;
      if (chunk !== null) yield chunk;
      if (isLast) return;
      if (chunk !== null) continue;
      if (input.errored) throw input.errored;
      if (input.readableEnded || input.destroyed) return;
      await raceSignal(changed, signal).catch(() => undefined);
    }
  } finally {
    for (const event of events) input.off(event, onChange);
    // Nobody reads on, so nobody is told.
    input.on("error", () => undefined);
  }
}
