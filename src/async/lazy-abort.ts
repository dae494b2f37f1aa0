type Listener = (reason: Error) => void;

const noListeners: readonly Listener[] = [];

/**
 * An AbortController that makes its signal when somebody asks for it: a signal,
 * its listener and its event cost as much as much else of a small call, most of
 * which never ask.
 */
export class LazyAbort {
  #controller: AbortController | undefined;
  #reason: Error | undefined;
  #listeners: readonly Listener[] = noListeners;

  get aborted(): boolean {
    return this.#reason !== undefined;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** The first reason counts. */
  abort(reason: Error): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    const listeners = this.#listeners;
    this.#listeners = noListeners;
    for (const listener of listeners) listener(reason);
    this.#controller?.abort(reason);
  }

  /** Calls the listener once, before those of the signal; at once, if it has been aborted. Returns the cleanup. */
  onAbort(listener: Listener): () => void {
    if (this.#reason !== undefined) {
      listener(this.#reason);
      return () => undefined;
    }
    // `push` and `filter` make room for 17, in each call.
    this.#listeners = this.#listeners.concat(listener);
    return () => {
      this.offAbort(listener);
    };
  }

  offAbort(listener: Listener): void {
    if (this.#listeners.length === 1 && this.#listeners[0] === listener) this.#listeners = noListeners;
    else this.#listeners = this.#listeners.filter((other) => other !== listener).slice();
  }
}
