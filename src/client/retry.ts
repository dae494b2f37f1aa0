import { Code, ConnectError } from "@connectrpc/connect";
import { linkSignals, reasonOf, sleep } from "../async/signals.ts";

/** How a client goes on after a broken connection. */
export interface RetryOptions {
  /** Attempts in a row without any progress, after which the failure is final. Default 10. */
  readonly attempts: number;
  /**
   * How long failures in a row are retried without any progress, in milliseconds, after which the failure is final.
   * Default: without a limit.
   */
  readonly maxElapsedMs: number;
  /** Upper bound of the first wait, in milliseconds; it doubles with each attempt. Default 100. */
  readonly baseDelayMs: number;
  /** Upper bound of every wait, in milliseconds. Default 5,000. */
  readonly maxDelayMs: number;
}

/** The options, and what ends every attempt: the client's own end, which is no broken connection. */
export interface RetryPolicy extends RetryOptions {
  readonly closed?: AbortSignal;
}

/** Told before each wait. */
export type OnRetry = (error: ConnectError, attempt: number, delayMs: number) => void;

export const defaultRetry: RetryOptions = {
  attempts: 10,
  maxElapsedMs: Infinity,
  baseDelayMs: 100,
  maxDelayMs: 5000,
};

/** Codes with which a transport reports that it broke; from a server they would be an answer. */
const brokenCodes: ReadonlySet<Code> = new Set([
  Code.Unavailable,
  Code.Aborted,
  Code.Unknown,
  Code.Internal,
  Code.DataLoss,
  // A truncated message, or end of stream.
  Code.InvalidArgument,
  // RST_STREAM with CANCEL or ENHANCE_YOUR_CALM, which a proxy or a closing server sends.
  Code.Canceled,
  Code.ResourceExhausted,
]);

/** System error codes that no second attempt changes. */
const finalCause = /CERT|SELF_SIGNED|VERIFY|ERR_TLS|ERR_SSL|ERR_INVALID|EPROTO/;

/** Whether the connection broke, or the server asks to try again, rather than refuses. */
export function isBroken(error: ConnectError): boolean {
  if (error.isWireError) return error.code === Code.Unavailable || busyMs(error) > 0;
  return brokenCodes.has(error.code) && !finalCause.test(causeCode(error));
}

/**
 * When a server that has no memory for the call (`--max-request-memory`) may be called again, in milliseconds (RFC 9110,
 * section 10.2.3). 0 for other failures: other exhausted resources stay so.
 */
function busyMs({ code, metadata, isWireError }: ConnectError): number {
  if (!isWireError || code !== Code.ResourceExhausted) return 0;
  const seconds = metadata.get("retry-after") ?? "";
  return /^\d{1,6}$/.test(seconds) ? Number(seconds) * 1000 : 0;
}

/** The system's code behind an error, such as ECONNREFUSED; empty if there is none. */
export function causeCode(error: unknown): string {
  for (let depth = 0, at = error; depth < 5 && at instanceof Error; depth++, at = at.cause) {
    const code: unknown = "code" in at ? at.code : undefined;
    if (typeof code === "string") return code;
  }
  return "";
}

/** Counts attempts, and waits between them, each time longer, with full jitter. */
export class Backoff {
  readonly #options: RetryPolicy;
  readonly #onRetry: OnRetry | undefined;
  #attempt = 0;
  /** When the first failure in a row happened, on the clock of `performance.now`. */
  #failingSinceMs: number | undefined;

  constructor(options: Partial<RetryPolicy> | undefined, onRetry: OnRetry | undefined) {
    this.#options = { ...defaultRetry, ...options };
    this.#onRetry = onRetry;
  }

  /** There was progress: the next failure is a first one again. */
  reset(): void {
    this.#attempt = 0;
    this.#failingSinceMs = undefined;
  }

  /** Waits for the next attempt. Rethrows the error if it is final, or the attempts or the time are used up. */
  async wait(error: unknown, signal: AbortSignal | undefined): Promise<void> {
    const failure = ConnectError.from(error);
    if (signal?.aborted === true || !isBroken(failure) || this.#attempt >= this.#options.attempts) throw error;
    const { baseDelayMs, maxDelayMs, maxElapsedMs, closed } = this.#options;
    if (closed?.aborted === true) throw reasonOf(closed);
    // https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ("full jitter")
    const jitteredMs = Math.random() * Math.min(maxDelayMs, baseDelayMs * 2 ** this.#attempt);
    const nowMs = performance.now();
    this.#failingSinceMs ??= nowMs;
    const leftMs = this.#failingSinceMs + maxElapsedMs - nowMs;
    if (leftMs <= 0) throw error;
    const delayMs = Math.min(Math.max(jitteredMs, busyMs(failure)), leftMs);
    this.#attempt++;
    this.#onRetry?.(failure, this.#attempt, delayMs);
    const waiting = linkSignals(signal, closed);
    try {
      await sleep(delayMs, waiting.signal);
    } finally {
      waiting.cleanup();
    }
  }
}
