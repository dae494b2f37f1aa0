import { Code, ConnectError } from "@connectrpc/connect";
import { LazyAbort } from "../async/lazy-abort.ts";
import { maxTimerMs } from "../async/timers.ts";
import type { Call } from "./call.ts";
import type { CallMemory, MemoryBudget } from "./memory-budget.ts";

/** How long an ended call may take to tell its peer, in milliseconds; then its stream is reset. */
const farewellMs = 1000;

/** Made once: an error takes longer to make than most of what a small call needs. */
const isOver = new ConnectError("the call is over", Code.Canceled);

/** What a call waits for, each with one timer. */
type Wait = "longest" | "idle" | "deadline" | "farewell";

export interface CallLimits {
  /** Longest duration in milliseconds. */
  readonly timeoutMs: number;
  /** The option that sets it, for the error. */
  readonly timeoutOption: string;
  /** Longest time without a byte in either direction, in milliseconds; absent for unary calls. */
  readonly idleMs?: number;
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
  readonly #reset: () => void;
  readonly #timers: Partial<Record<Wait, NodeJS.Timeout>> = {};
  #expiresAt: number | undefined;
  #touched = false;
  #closed = false;

  /** `reset` cuts the stream of a call that could not end in order. */
  constructor(
    about: Pick<Call, "procedure" | "shape" | "protocol" | "httpVersion" | "peer">,
    limits: CallLimits,
    reset: () => void,
    budget: MemoryBudget,
  ) {
    this.procedure = about.procedure;
    this.shape = about.shape;
    this.protocol = about.protocol;
    this.httpVersion = about.httpVersion;
    this.peer = about.peer;
    this.#reset = reset;
    this.memory = budget.open((error) => {
      this.end(error);
    });
    this.#after("longest", limits.timeoutMs, () => {
      this.end(new ConnectError(`the call took longer than ${limits.timeoutOption} allows`, Code.DeadlineExceeded));
    });
    if (limits.idleMs !== undefined) this.#watchIdle(limits.idleMs);
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
    this.#after("farewell", farewellMs, this.#reset);
    this.#abort.abort(reason);
  }

  /** As a listener of `signal`, but without the signal. Returns the cleanup. */
  onAbort(listener: (reason: Error) => void): () => void {
    return this.#abort.onAbort(listener);
  }

  holdHeaders(): void {
    this.headersHeld = true;
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
    this.#expiresAt = performance.now() + ms;
    this.#after("deadline", ms, () => {
      this.end(new ConnectError("the operation timed out", Code.DeadlineExceeded));
    });
  }

  /** Milliseconds until the client's own deadline, if it has one. */
  get leftMs(): number | undefined {
    return this.#expiresAt === undefined ? undefined : this.#expiresAt - performance.now();
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
    for (const wait in this.#timers) clearTimeout(this.#timers[wait as Wait]);
    if (reason !== undefined) this.error ??= reason;
    this.settle(reason);
    const listeners = this.#listeners;
    this.#listeners = [];
    for (const listener of listeners) listener();
  }

  /** Looks several times, because to note the time of each byte would cost more than the rest of its way. */
  #watchIdle(idleMs: number): void {
    const looks = 4;
    let quiet = 0;
    const look = (): void => {
      quiet = this.#touched ? 0 : quiet + 1;
      this.#touched = false;
      if (quiet < looks) {
        this.#after("idle", idleMs / looks, look);
        return;
      }
      this.end(
        new ConnectError(
          "nothing was sent in either direction for as long as --stream-idle-timeout allows",
          Code.DeadlineExceeded,
        ),
      );
    };
    this.#after("idle", idleMs / looks, look);
  }

  #after(wait: Wait, ms: number, run: () => void): void {
    const end = performance.now() + ms;
    const arm = (): void => {
      const left = Math.max(0, Math.ceil(end - performance.now()));
      const expire = left > maxTimerMs ? arm : run;
      this.#timers[wait] = setTimeout(expire, Math.min(left, maxTimerMs)).unref();
    };
    arm();
  }
}
