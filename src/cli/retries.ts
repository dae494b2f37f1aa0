import type { OnRetry } from "../client/index.ts";
import { Backoff } from "../client/retry.ts";
import type { RetryOptions } from "../client/retry.ts";
import { errorText } from "./failure.ts";
import type { Output } from "./output.ts";

/** After the first note of an outage, in milliseconds; each further pause is twice as long, up to the second number. */
const noteAfterMs = 5_000;
const noteAtMostMs = 300_000;

export const retryForHelp = "how long to try again when the server is away (default: for ever; of a file, 10 times)";

/** How a command that follows or ships goes on after broken connections, and what it tells of them. */
export class Retries {
  readonly options: Partial<RetryOptions>;
  readonly #out: Output;
  /** Whether the server is awaited from the start on, because somebody has said for how long. */
  readonly #fromStart: boolean;
  #outage: { readonly sinceMs: number; nextNoteMs: number; pauseMs: number } | undefined;

  /** `retryForMs`: how long an outage may last; undefined for ever. */
  constructor(out: Output, retryForMs: number | undefined, fromStart = retryForMs !== undefined) {
    this.#out = out;
    this.#fromStart = fromStart;
    this.options = { attempts: Infinity, maxElapsedMs: retryForMs ?? Infinity };
  }

  /** Whether the last attempt failed. */
  get inOutage(): boolean {
    return this.#outage !== undefined;
  }

  /** Fits the client's `onRetry`. */
  readonly onRetry: OnRetry = (error, attempt, delayMs) => {
    const nowMs = performance.now();
    if (this.#outage === undefined) {
      this.#outage = { sinceMs: nowMs, nextNoteMs: nowMs + noteAfterMs, pauseMs: noteAfterMs };
      this.#out.retry(error, attempt, delayMs);
    } else if (nowMs >= this.#outage.nextNoteMs) {
      this.#outage.pauseMs = Math.min(noteAtMostMs, this.#outage.pauseMs * 2);
      this.#outage.nextNoteMs = nowMs + this.#outage.pauseMs;
      this.#out.note(`still trying after ${seconds(nowMs - this.#outage.sinceMs)} (${errorText(error)})`);
    }
  };

  /** To be called whenever the server has answered. */
  succeeded(): void {
    if (this.#outage === undefined) return;
    this.#out.note(`connected again after ${seconds(performance.now() - this.#outage.sinceMs)}`);
    this.#outage = undefined;
  }

  /** The first call of a command. It fails at once without a server, unless there is a time to wait for one. */
  async start<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    if (!this.#fromStart) return work();
    const backoff = new Backoff(this.options, this.onRetry);
    for (;;) {
      try {
        const result = await work();
        this.succeeded();
        return result;
      } catch (error) {
        await backoff.wait(error, signal);
      }
    }
  }
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}
