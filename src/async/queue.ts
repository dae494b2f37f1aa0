import { onAbort } from "./signals.ts";

/**
 * A bounded queue between one or more producers and one consumer.
 *
 * `push` resolves once there is room again, which is the backpressure; items
 * that were pushed are always delivered before the end. Leaving the `for await`
 * loop drops what is left and fails later pushes.
 */
export class BoundedQueue<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  readonly #capacity: number;
  #state: { kind: "open" } | { kind: "ended" } | { kind: "failed"; error: Error } = { kind: "open" };
  #wakeConsumer: (() => void) | undefined;
  #wakeProducers: (() => void)[] = [];

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#items.length;
  }

  /** Adds an item, and resolves once fewer than `capacity` items wait. */
  async push(item: T, signal?: AbortSignal): Promise<void> {
    if (this.#state.kind === "failed") throw this.#state.error;
    if (this.#state.kind === "ended") throw new Error("the queue has ended");
    this.#items.push(item);
    this.#wakeConsumer?.();
    while (this.#items.length >= this.#capacity) {
      if (!(await this.#room(signal))) return;
    }
  }

  /** No more items; the consumer ends after those that wait. */
  end(): void {
    if (this.#state.kind !== "open") return;
    this.#state = { kind: "ended" };
    this.#wakeAll();
  }

  /** The consumer gets the error after the items that wait; pushes fail with it at once. */
  fail(error: Error): void {
    if (this.#state.kind !== "open") return;
    this.#state = { kind: "failed", error };
    this.#wakeAll();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    try {
      for (;;) {
        while (this.#items.length > 0) {
          const item = this.#items.shift() as T;
          if (this.#items.length < this.#capacity) this.#wakeAllProducers();
          yield item;
        }
        if (this.#state.kind === "failed") throw this.#state.error;
        if (this.#state.kind === "ended") return;
        await new Promise<void>((resolve) => {
          this.#wakeConsumer = resolve;
        });
        this.#wakeConsumer = undefined;
      }
    } finally {
      this.#items.length = 0;
      this.fail(new Error("the queue's consumer has left"));
    }
  }

  /** Waits until an item has been taken; false if the queue has ended, and fails if it has failed. */
  #room(signal: AbortSignal | undefined): Promise<boolean> {
    return new Promise((resolve, reject) => {
      let cleanup = (): void => undefined;
      const wake = (): void => {
        cleanup();
        if (this.#state.kind === "failed") reject(this.#state.error);
        else resolve(this.#state.kind === "open");
      };
      this.#wakeProducers.push(wake);
      if (signal === undefined) return;
      cleanup = onAbort(signal, (reason) => {
        this.#wakeProducers = this.#wakeProducers.filter((other) => other !== wake);
        reject(reason);
      });
    });
  }

  #wakeAllProducers(): void {
    for (const wake of this.#wakeProducers.splice(0)) wake();
  }

  #wakeAll(): void {
    this.#wakeConsumer?.();
    this.#wakeAllProducers();
  }
}
