import { reasonOf } from "./signals.ts";

/** How long one piece of work may hold the event loop before the others get a turn, in milliseconds. */
const sliceMs = 5;

/**
 * Cuts long work into pieces, so that the event loop serves others in between.
 *
 *     const slice = new TimeSlice(signal);
 *     for (const item of items) {
 *       work(item);
 *       if (slice.isOver) await slice.next();
 *     }
 */
export class TimeSlice {
  readonly #signal: AbortSignal | undefined;
  readonly #ms: number;
  #begun = performance.now();

  constructor(signal?: AbortSignal, ms = sliceMs) {
    this.#signal = signal;
    this.#ms = ms;
  }

  /** Whether it is time to call `next`. */
  get isOver(): boolean {
    return performance.now() - this.#begun >= this.#ms;
  }

  /** Lets the others have their turn. Rejects with the signal's reason once it is aborted. */
  async next(): Promise<void> {
    this.check();
    await new Promise(setImmediate);
    this.check();
    this.#begun = performance.now();
  }

  /** Throws the signal's reason once it is aborted. */
  check(): void {
    if (this.#signal?.aborted === true) throw reasonOf(this.#signal);
  }
}
