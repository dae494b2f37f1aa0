import { Code, ConnectError } from "@connectrpc/connect";

/** What a call may hold when the budget is exhausted, in bytes. */
const fairShare = 64 * 1024;

/** The part of the budget that only calls within their fair share may use. */
const reserved = 1 / 4;

/** When a refused call may be made again, in seconds. */
const retrySeconds = 1;

/** google.rpc.RetryInfo with `retry_delay` (field 1), a google.protobuf.Duration with `seconds` (field 1). */
const retryInfo = { type: "google.rpc.RetryInfo", value: new Uint8Array([0x0a, 2, 0x08, retrySeconds]) };

interface Endable {
  end(reason: ConnectError): void;
}

/**
 * Memory that all calls of a server share: bytes of requests that are being read, inflated or decoded, messages that
 * handlers hold, and answers that their peers have not taken. A quarter is kept for calls that hold at most 64 KiB
 * each, so that large requests cannot keep small ones out.
 */
export class MemoryBudget {
  readonly maxBytes: number;
  #bytes = 0;
  #refusals = 0;
  /** Messages that are still referred to, whose charge goes when they do. */
  readonly #collected = new FinalizationRegistry<{ readonly account: CallMemory; readonly bytes: number }>(
    ({ account, bytes }) => {
      account.release(bytes);
    },
  );

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** Bytes that calls hold. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Charges that were refused. */
  get refusals(): number {
    return this.#refusals;
  }

  /** Opens the account of a call, which is ended when a charge is refused that it cannot do without. */
  open(call: Endable): CallMemory {
    return new CallMemory(this, call);
  }

  /** Counts what a call that holds `held` needs; false if there is no room for it. For accounts. */
  admit(bytes: number, held: number): boolean {
    const after = this.#bytes + bytes;
    const limit = held + bytes <= fairShare ? this.maxBytes : this.maxBytes * (1 - reserved);
    if (after > limit) return false;
    this.#bytes = after;
    return true;
  }

  /** For accounts. */
  release(bytes: number): void {
    this.#bytes -= bytes;
  }

  /** Releases what is charged for the message once nothing refers to it. For accounts. */
  releaseWith(message: object, account: CallMemory, bytes: number): void {
    this.#collected.register(message, { account, bytes });
  }

  /** The error of a call whose charge was refused. For accounts. */
  refuse(): ConnectError {
    this.#refusals++;
    return retryLater(
      new ConnectError(
        "the calls of this server hold all of --max-request-memory: try again later, with smaller messages or fewer calls at once",
        Code.ResourceExhausted,
      ),
    );
  }
}

/** What one call holds of the budget. Nothing is counted after `close`. */
export class CallMemory {
  readonly #budget: MemoryBudget;
  #call: Endable | undefined;
  #held = 0;
  #closed = false;

  constructor(budget: MemoryBudget, call: Endable) {
    this.#budget = budget;
    this.#call = call;
  }

  charge(bytes: number): boolean {
    if (this.#closed) return true;
    if (!this.#budget.admit(bytes, this.#held)) return false;
    this.#held += bytes;
    return true;
  }

  release(bytes: number): void {
    if (this.#closed) return;
    this.#held -= bytes;
    this.#budget.release(bytes);
  }

  /** Leaves the charge to the message, and releases it once nothing refers to the message. */
  releaseWith(message: object, bytes: number): void {
    this.#budget.releaseWith(message, this, bytes);
  }

  exhausted(): ConnectError {
    const error = this.#budget.refuse();
    this.#call?.end(error);
    return error;
  }

  /** Releases all that the call still holds. */
  close(): void {
    this.#budget.release(this.#held);
    this.#held = 0;
    this.#closed = true;
    // A message that somebody keeps refers to this, and need not keep the call.
    this.#call = undefined;
  }
}

/**
 * Adds when to try again: google.rpc.RetryInfo as a detail, and `Retry-After`
 * (RFC 9110, section 10.2.3) in the headers or trailers of the response.
 */
export function retryLater(error: ConnectError): ConnectError {
  error.details.push(retryInfo);
  error.metadata.set("retry-after", String(retrySeconds));
  return error;
}
