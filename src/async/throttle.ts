import { sleep } from "./signals.ts";

/** How far the work may be ahead before it waits, in milliseconds. */
const slackMs = 20;

/** Keeps work at a rate, in bytes per second. */
export class Throttle {
  readonly #bytesPerMs: number;
  readonly #startMs = performance.now();
  #bytes = 0;

  /** `Infinity`: it never waits. */
  constructor(bytesPerSecond: number) {
    this.#bytesPerMs = bytesPerSecond / 1000;
  }

  /** Counts bytes, and waits while they are ahead of the rate. Rejects with the signal's reason when it is aborted. */
  async pass(bytes: number, signal: AbortSignal): Promise<void> {
    this.#bytes += bytes;
    const aheadMs = this.#startMs + this.#bytes / this.#bytesPerMs - performance.now();
    if (aheadMs > slackMs) await sleep(aheadMs, signal);
  }
}
