import type { Store } from "./store.ts";

/** A difference between the clocks that no adjustment of the clock's speed explains, in milliseconds. */
const jumpMs = 60_000;

export interface SweeperOptions {
  /** Between the beginnings of two sweeps, in milliseconds. One that takes longer goes on alone. */
  readonly intervalMs: number;
  /** Called when a sweep fails. */
  readonly onError: (error: unknown) => void;
  /** Called when the clock was set, with by how much, in milliseconds: positive if it is ahead of where it was. */
  readonly onClockJump: (byMs: number) => void;
  /** Milliseconds since the Unix epoch. Default `Date.now`. */
  readonly now?: () => number;
  /** Milliseconds on a clock that nobody sets. Default `performance.now`. */
  readonly monotonicNow?: () => number;
}

/** Sweeps the store again and again. The result stops it, and resolves when no sweep runs any more. */
export function startSweeper(store: Pick<Store, "sweep">, options: SweeperOptions): () => Promise<void> {
  const { intervalMs, onError, onClockJump, now = Date.now, monotonicNow = () => performance.now() } = options;
  const stopping = new AbortController();
  let sweeping: Promise<void> | undefined;
  let offsetMs = now() - monotonicNow();
  const timer = setInterval(() => {
    const nowMs = now();
    const byMs = nowMs - monotonicNow() - offsetMs;
    offsetMs += byMs;
    if (Math.abs(byMs) >= jumpMs) onClockJump(byMs);
    sweeping ??= store
      .sweep(nowMs, stopping.signal)
      .catch((error: unknown) => {
        if (!stopping.signal.aborted) onError(error);
      })
      .finally(() => {
        sweeping = undefined;
      });
  }, intervalMs);
  timer.unref();
  return async () => {
    clearInterval(timer);
    stopping.abort();
    await sweeping;
  };
}
