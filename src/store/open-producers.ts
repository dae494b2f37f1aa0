/** The producers that have an appender open, which a sweep must not forget. */
export class OpenProducers {
  readonly #counts = new Map<string, number>();

  /** Counts an open appender of the producer. Returns a function that stops counting it; later calls do nothing. */
  enter(streamId: number, producerId: string): () => void {
    const key = keyOf(streamId, producerId);
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    let entered = true;
    return () => {
      if (!entered) return;
      entered = false;
      const left = (this.#counts.get(key) ?? 0) - 1;
      if (left > 0) this.#counts.set(key, left);
      else this.#counts.delete(key);
    };
  }

  has(streamId: number, producerId: string): boolean {
    return this.#counts.has(keyOf(streamId, producerId));
  }
}

function keyOf(streamId: number, producerId: string): string {
  return `${streamId}/${producerId}`;
}
