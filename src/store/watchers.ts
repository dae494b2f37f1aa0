/** Listeners that are called in one turn of the event loop: each of them may have a reader to serve. */
const listenersPerTurn = 64;

interface Watched {
  readonly listeners: Set<() => void>;
  /** Something has changed since the listeners began to be called. */
  changed: boolean;
  calling: boolean;
}

/** Listeners for changes of a stream, by its name. */
export class Watchers {
  readonly #byName = new Map<string, Watched>();

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  /** Returns the cleanup. */
  watch(name: string, listener: () => void): () => void {
    let watched = this.#byName.get(name);
    if (watched === undefined) {
      this.#byName.set(name, (watched = { listeners: new Set(), changed: false, calling: false }));
    }
    const { listeners } = watched;
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#byName.get(name)?.listeners === listeners) this.#byName.delete(name);
    };
  }

  /**
   * Calls the listeners, some in this turn of the event loop and the others in later ones. Changes that come meanwhile
   * are told together, once all have been called.
   */
  wake(name: string): void {
    const watched = this.#byName.get(name);
    if (watched === undefined) return;
    watched.changed = true;
    if (watched.calling) return;
    watched.calling = true;
    this.#begin(watched);
  }

  #begin(watched: Watched): void {
    watched.changed = false;
    this.#call(watched, [...watched.listeners], 0);
  }

  #call(watched: Watched, listeners: readonly (() => void)[], from: number): void {
    const to = Math.min(from + listenersPerTurn, listeners.length);
    const call = (at: number): void => {
      const listener = listeners[at];
      if (listener !== undefined && watched.listeners.has(listener)) listener();
      if (at + 1 < to) return;
      if (to < listeners.length) {
        setImmediate(() => {
          this.#call(watched, listeners, to);
        });
      } else if (watched.changed) {
        setImmediate(() => {
          this.#begin(watched);
        });
      } else {
        watched.calling = false;
      }
    };
    // Each alone, with the promises that follow from it: what a reader writes then lies side by side and leaves as one.
    for (let at = from + 1; at < to; at++) setImmediate(call, at);
    call(from);
  }
}
