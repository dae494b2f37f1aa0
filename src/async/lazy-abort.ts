type Listener = (reason: Error) => void;

/**
 * An AbortController that makes its signal when somebody asks for it: a signal,
 * its listener and its event cost as much as much else of a small call, most of
 * which never ask.
 */
export class LazyAbort {
  #controller: AbortController | undefined;
  #reason: Error | undefined;
  #listeners: Listener[] = [];

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
    this.#listeners = [];
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
      this.#listeners = this.#listeners.filter((other) => other !== listener).slice();
    };
  }
}
