import { Code, ConnectError } from "@connectrpc/connect";
import { LazyAbort } from "../async/lazy-abort.ts";
import { maxTimerMs } from "../async/timers.ts";
import type { Call } from "./call.ts";
import { retryLater } from "./memory-budget.ts";
import type { CallMemory, MemoryBudget } from "./memory-budget.ts";

/** How long an ended call may take to tell its peer, in milliseconds; then its stream is reset. */
const farewellMs = 1000;

/** Made once: an error takes longer to make than most of what a small call needs. */
const isOver = new ConnectError("the call is over", Code.Canceled);

/** How often activity is looked for within the time that a call may be idle: a timestamp per byte would cost more. */
const looksPerIdleTimeout = 4;

export interface CallLimits {
  /** Longest duration in milliseconds. */
  readonly timeoutMs: number;
  /** The option that sets it, for the error. */
  readonly timeoutOption: string;
  /** Longest time without a byte in either direction, in milliseconds; absent for unary calls. */
  readonly idleMs?: number;
}

/** Resets the HTTP stream of a call that could not end in order. */
interface Resettable {
  reset(): void;
}

/** One RPC in flight: its signal, its deadlines, and what it has counted. */
export class ActiveCall implements Call {
  readonly procedure: string;
  readonly shape: Call["shape"];
  readonly protocol: Call["protocol"];
  readonly httpVersion: string;
  readonly peer: string;
  readonly startedAt = performance.now();
  messagesIn = 0;
  messagesOut = 0;
  bytesIn = 0;
  bytesOut = 0;
  /** What the call failed with, as far as is known. */
  error: ConnectError | undefined;
  headersHeld = false;
  /** Its token was accepted, or it needs none. */
  admitted = false;
  /** This side has ended it, before the peer could. */
  ended = false;
  /** Runs once the call has passed the gate. */
  afterGate: (() => Promise<void>) | undefined;
  readonly memory: CallMemory;
  readonly #abort = new LazyAbort();
  #listeners: (() => void)[] = [];
  readonly #exchange: Resettable;
  readonly #limits: CallLimits;
  /** One timer for all that follow, which are times of `performance.now()`: Infinity for what is not waited for. */
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Infinity;
  #longestAt = Infinity;
  #deadlineAt = Infinity;
  #nextLookAt = Infinity;
  #farewellAt = Infinity;
  #quietLooks = 0;
  #touched = false;
  #closed = false;

  constructor(
    about: Pick<Call, "procedure" | "shape" | "protocol" | "httpVersion" | "peer">,
    limits: CallLimits,
    exchange: Resettable,
    budget: MemoryBudget,
  ) {
    this.procedure = about.procedure;
    this.shape = about.shape;
    this.protocol = about.protocol;
    this.httpVersion = about.httpVersion;
    this.peer = about.peer;
    this.#exchange = exchange;
    this.#limits = limits;
    this.memory = budget.open(this);
    this.#longestAt = this.startedAt + limits.timeoutMs;
    if (limits.idleMs !== undefined) this.#nextLookAt = this.startedAt + limits.idleMs / looksPerIdleTimeout;
    this.#arm();
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Whether the response is complete, or its stream gone. */
  get closed(): boolean {
    return this.#closed;
  }

  end(reason: Error): void {
    if (this.#closed || this.#abort.aborted) return;
    this.ended = true;
    this.error ??= ConnectError.from(reason);
    this.#farewellAt = performance.now() + farewellMs;
    this.#arm();
    this.#abort.abort(reason);
  }

  /** As a listener of `signal`, but without the signal. Returns the cleanup. */
  onAbort(listener: (reason: Error) => void): () => void {
    return this.#abort.onAbort(listener);
  }

  /** Removes a listener that `onAbort` has added: the same as its cleanup. */
  offAbort(listener: (reason: Error) => void): void {
    this.#abort.offAbort(listener);
  }

  holdHeaders(): void {
    this.headersHeld = true;
  }

  mayIdle(): void {
    this.#nextLookAt = Infinity;
  }

  onClose(listener: () => void): () => void {
    if (this.#closed) {
      listener();
      return () => undefined;
    }
    // As in LazyAbort.
    this.#listeners = this.#listeners.concat(listener);
    return () => {
      this.#listeners = this.#listeners.filter((other) => other !== listener).slice();
    };
  }

  /** The client's own deadline, in milliseconds from now. */
  expireAfter(ms: number): void {
    this.#deadlineAt = performance.now() + ms;
    this.#arm();
  }

  /** Milliseconds until the client's own deadline, if it has one. */
  get leftMs(): number | undefined {
    return this.#deadlineAt === Infinity ? undefined : this.#deadlineAt - performance.now();
  }

  /** The handler is done: what it has started need not go on. */
  settle(reason: Error = isOver): void {
    this.#abort.abort(reason);
  }

  /** Some byte has passed. */
  touch(): void {
    this.#touched = true;
  }

  /** The response is complete, or its stream is gone (`reason`). Nothing happens after it. */
  close(reason?: ConnectError): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (reason !== undefined) this.error ??= reason;
    this.settle(reason);
    const listeners = this.#listeners;
    this.#listeners = [];
    for (const listener of listeners) listener();
  }

  /** Sets the timer for the next of the times; one that is early enough already stays. */
  #arm(): void {
    const at = this.ended ? this.#farewellAt : Math.min(this.#longestAt, this.#deadlineAt, this.#nextLookAt);
    if (this.#closed || at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    if (at === Infinity) return;
    const ms = Math.max(0, Math.ceil(at - performance.now()));
    this.#timer = setTimeout(ActiveCall.#wake, Math.min(ms, maxTimerMs), this).unref();
  }

  static #wake(call: ActiveCall): void {
    call.#timerAt = Infinity;
    const now = performance.now();
    if (call.ended) {
      if (call.#farewellAt <= now) {
        call.#farewellAt = Infinity;
        call.#exchange.reset();
      }
    } else if (call.#abort.aborted) {
      // The handler is done, and the peer does not take the answer. Nothing more can be said to it.
      call.#nextLookAt = Infinity;
      if (Math.min(call.#deadlineAt, call.#longestAt) <= now) {
        call.#deadlineAt = call.#longestAt = Infinity;
        call.#exchange.reset();
      }
    } else if (call.#deadlineAt <= now) {
      call.end(new ConnectError("the operation timed out", Code.DeadlineExceeded));
    } else if (call.#longestAt <= now) {
      const { timeoutOption } = call.#limits;
      call.end(retryLater(new ConnectError(`the call took longer than ${timeoutOption} allows`, Code.Unavailable)));
    } else if (call.#nextLookAt <= now) {
      call.#look(now);
    }
    call.#arm();
  }

  #look(now: number): void {
    this.#quietLooks = this.#touched ? 0 : this.#quietLooks + 1;
    this.#touched = false;
    if (this.#quietLooks < looksPerIdleTimeout) {
      this.#nextLookAt = now + (this.#limits.idleMs ?? Infinity) / looksPerIdleTimeout;
      return;
    }
    this.end(
      retryLater(
        new ConnectError(
          "nothing was sent in either direction for as long as --stream-idle-timeout allows",
          Code.Unavailable,
        ),
      ),
    );
  }
}
