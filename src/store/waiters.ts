import { onAbort } from "../async/signals.ts";

/** Those who wait for a change of a stream, by its name. */
export class Waiters {
  readonly #waiting = new Map<string, Set<() => void>>();

  /** Resolves at the next `wake` of the name; rejects with the signal's reason. */
  wait(name: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      let set = this.#waiting.get(name);
      if (set === undefined) this.#waiting.set(name, (set = new Set()));
      const waiting = set;
      let cleanup = (): void => undefined;
      const leave = (): void => {
        waiting.delete(done);
        if (waiting.size === 0 && this.#waiting.get(name) === waiting) this.#waiting.delete(name);
      };
      const done = (): void => {
        leave();
        cleanup();
        resolve();
      };
      waiting.add(done);
      cleanup = onAbort(signal, (reason) => {
        leave();
        reject(reason);
      });
    });
  }

  wake(name: string): void {
    for (const done of [...(this.#waiting.get(name) ?? [])]) done();
  }
}
