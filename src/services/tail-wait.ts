import type { Store } from "../store/store.ts";

/** How a call ends. `Call` of the runtime is one; without it a signal would be made for each follower. */
export interface CallEnd {
  /** Calls the listener once with the reason, at once if the call has ended. Returns the cleanup. */
  onAbort(listener: (reason: Error) => void): () => void;
}

/** Those who follow, so that a drain ends them all. */
export class Followers {
  readonly #waits = new Set<TailWait>();
  #reason: Error | undefined;

  add(wait: TailWait): void {
    if (this.#reason === undefined) this.#waits.add(wait);
    else wait.fail(this.#reason);
  }

  delete(wait: TailWait): void {
    this.#waits.delete(wait);
  }

  /** Ends every wait, and all that follow, with the reason. */
  end(reason: Error): void {
    this.#reason ??= reason;
    for (const wait of this.#waits) wait.fail(reason);
  }
}

interface Waiting {
  readonly resolve: (changed: boolean) => void;
  readonly reject: (reason: Error) => void;
}

/**
 * What a reader at the tail of a stream waits with: made once for each, and kept
 * until it leaves, because what is made for each wait outlives many collections
 * of the young generation and fills the old one.
 */
export class TailWait {
  readonly #followers: Followers;
  readonly #timer: NodeJS.Timeout;
  readonly #unwatch: () => void;
  readonly #leaveCall: () => void;
  #waiting: Waiting | undefined;
  #changed = false;
  #failure: Error | undefined;

  /** What the store has found by now is not told: read it after this. */
  constructor(store: Store, stream: string, followers: Followers, call: CallEnd, heartbeatMs: number) {
    this.#followers = followers;
    this.#timer = setTimeout(() => {
      this.#end()?.resolve(false);
    }, heartbeatMs);
    this.#unwatch = store.watch(stream, () => {
      const waiting = this.#end();
      if (waiting === undefined) this.#changed = true;
      else waiting.resolve(true);
    });
    this.#leaveCall = call.onAbort((reason) => {
      this.fail(reason);
    });
    followers.add(this);
  }

  /**
   * True once the stream has changed since the last time; false after `heartbeatMs` without a change. Rejects when the
   * call ends or the server drains.
   */
  next(): Promise<boolean> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#changed) {
      this.#changed = false;
      return Promise.resolve(true);
    }
    this.#timer.refresh();
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  fail(reason: Error): void {
    this.#failure ??= reason;
    this.#end()?.reject(reason);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#unwatch();
    this.#leaveCall();
    this.#followers.delete(this);
  }

  #end(): Waiting | undefined {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    return waiting;
  }
}
