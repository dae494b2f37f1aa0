/** What brings the chunks, and can be asked to wait. */
export interface ChunkSource {
  pause(): void;
  resume(): void;
}

/** Bytes that wait for the reader before the source is asked to pause. */
const maxQueuedBytes = 64 * 1024;

/** What a chunk that waits costs besides its bytes: without it, tiny ones would wait without bound. */
const waitingBytes = 128;

/** The chunks of a body, from the exchange that brings them to the one who reads them. */
export class ChunkQueue {
  readonly #source: ChunkSource;
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #state: { readonly kind: "open" | "ended" | "left" } | { readonly kind: "failed"; readonly reason: Error } = {
    kind: "open",
  };
  #wake: (() => void) | undefined;

  constructor(source: ChunkSource) {
    this.#source = source;
  }

  push(chunk: Uint8Array): void {
    if (this.#state.kind !== "open") return;
    this.#chunks.push(chunk);
    this.#bytes += chunk.byteLength + waitingBytes;
    if (this.#bytes > maxQueuedBytes) this.#source.pause();
    this.#wake?.();
  }

  /** The reader ends after the chunks that wait. */
  end(): void {
    this.#settle({ kind: "ended" });
  }

  /** The reader gets the reason at once: what waits is dropped. */
  fail(reason: Error): void {
    this.#settle({ kind: "failed", reason });
  }

  /** To be called once. A reader who leaves before the end lets what still comes be dropped. */
  async *read(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        if (this.#state.kind === "failed") throw this.#state.reason;
        if (this.#chunks.length > 0) {
          yield* this.#take();
        } else if (this.#state.kind === "ended") {
          return;
        } else {
          await new Promise<void>((resolve) => (this.#wake = resolve));
          this.#wake = undefined;
        }
      }
    } finally {
      this.#settle({ kind: "left" });
      this.#take();
    }
  }

  #take(): Uint8Array[] {
    const taken = this.#chunks;
    this.#chunks = [];
    if (this.#bytes > maxQueuedBytes) this.#source.resume();
    this.#bytes = 0;
    return taken;
  }

  #settle(state: { readonly kind: "ended" | "left" } | { readonly kind: "failed"; readonly reason: Error }): void {
    if (this.#state.kind === "failed" || this.#state.kind === "left") return;
    this.#state = state;
    this.#wake?.();
  }
}
