/** Both directions of a stream, in the shape of WebTransportBidirectionalStream. Each ends on its own. */
export interface BidirectionalStream {
  /**
   * What the peer sends, and its end. Fails if the peer, or this side, cuts the stream. Cancelling it tells the peer,
   * as far as HTTP can, that no more is wanted; the writable goes on.
   */
  readonly readable: ReadableStream<Uint8Array>;
  /**
   * Closing it ends this direction; the readable goes on. Aborting it cuts both. A write is done when the bytes may be
   * changed again, so that whoever awaits it, or `ready`, keeps to the pace of the peer.
   */
  readonly writable: WritableStream<Uint8Array>;
}

/** What carries the two directions: an HTTP exchange, of either side, that lets each end on its own. */
export interface DuplexCarrier {
  /**
   * Writes the pieces as one. False if the peer does not keep up: then `onDrain` follows.
   * Calls `sent` once the pieces are out and their memory may be written again.
   */
  write(pieces: readonly Uint8Array[], sent: () => void): boolean;
  end(): void;
  /** Takes no more of what the peer sends. */
  stopReceiving(): void;
  /** Cuts both directions. */
  reset(why: "canceled" | "error"): void;
  pause(): void;
  resume(): void;
}

/** What a chunk that waits costs besides its bytes: without it, tiny ones would wait without bound. */
const waitingBytes = 64;

/** A chunk that is a smaller part of its memory than this is copied, so that it does not keep the rest from being freed. */
const leastShare = 1 / 8;

/**
 * The bytes of an exchange as a pair of Web Streams. Whoever has the exchange
 * calls the `on` methods with what happens to it.
 */
export class DuplexStream implements BidirectionalStream {
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;
  readonly #carrier: DuplexCarrier;
  readonly #onOver: () => void;
  /** Until its direction is over. */
  #reader: ReadableStreamDefaultController<Uint8Array> | undefined;
  #writer: WritableStreamDefaultController | undefined;
  #paused = false;
  #full = false;
  #unsent: { sent: boolean; readonly done: PromiseWithResolvers<undefined> } | undefined;

  /**
   * `maxQueuedBytes` wait for the reader before the peer is asked to pause.
   * Calls `onOver` once neither direction can bring anything any more.
   */
  constructor(carrier: DuplexCarrier, maxQueuedBytes: number, onOver: () => void = () => undefined) {
    this.#carrier = carrier;
    this.#onOver = onOver;
    this.readable = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#reader = controller;
        },
        pull: () => {
          this.#letFlow();
        },
        cancel: () => {
          this.#endReader();
          carrier.stopReceiving();
        },
      },
      { highWaterMark: maxQueuedBytes, size: ({ byteLength }) => byteLength + waitingBytes },
    );
    this.writable = new WritableStream<Uint8Array>({
      start: (controller) => {
        this.#writer = controller;
        // `abort` of the sink would wait for the write under way, which waits for the peer.
        controller.signal.addEventListener("abort", () => {
          this.#cut("canceled", controller.signal.reason);
        });
      },
      write: (chunk) => this.#write(chunk),
      close: () => {
        this.#endWriter();
        carrier.end();
      },
    });
  }

  onChunk(chunk: Uint8Array): void {
    const reader = this.#reader;
    if (reader === undefined || chunk.byteLength === 0) return;
    const { buffer, byteOffset, byteLength } = chunk;
    // A plain array of bytes, also where Node gives a Buffer, whose `slice` does not copy.
    reader.enqueue(
      byteLength < buffer.byteLength * leastShare
        ? new Uint8Array(chunk)
        : new Uint8Array(buffer, byteOffset, byteLength),
    );
    if ((reader.desiredSize ?? 0) <= 0 && !this.#paused) {
      this.#paused = true;
      this.#carrier.pause();
    }
  }

  /** The peer has ended its direction. */
  onEnd(): void {
    this.#reader?.close();
    this.#endReader();
  }

  onDrain(): void {
    this.#full = false;
    this.#settleWrite();
  }

  /** The peer takes no more. */
  onStopped(reason: Error): void {
    this.#writer?.error(reason);
    this.#endWriter();
    this.#failWrite(reason);
  }

  /** What has not ended by now fails. */
  onBroken(reason: Error): void {
    this.#failReader(reason);
    this.onStopped(reason);
  }

  /** Fails the readable, and leaves the writable to be ended in order. */
  stopReceiving(reason: Error): void {
    if (this.#reader === undefined) return;
    this.#failReader(reason);
    this.#carrier.stopReceiving();
  }

  async #write(chunk: Uint8Array): Promise<void> {
    if (!((chunk as unknown) instanceof Uint8Array)) {
      const error = new TypeError("a stream takes chunks that are Uint8Arrays: encode text with TextEncoder");
      this.#cut("error", error);
      throw error;
    }
    if (chunk.byteLength === 0) return;
    const unsent = { sent: false, done: Promise.withResolvers<undefined>() };
    this.#unsent = unsent;
    this.#full = true;
    const open = this.#carrier.write([chunk], () => {
      unsent.sent = true;
      this.#settleWrite();
    });
    if (open) this.onDrain();
    await unsent.done.promise;
  }

  #settleWrite(): void {
    if (this.#full || this.#unsent?.sent !== true) return;
    this.#unsent.done.resolve(undefined);
    this.#unsent = undefined;
  }

  #cut(why: "canceled" | "error", thrown: unknown): void {
    if (this.#writer === undefined) return;
    const reason = thrown instanceof Error ? thrown : new DOMException("the stream was aborted", "AbortError");
    this.#failReader(reason);
    // The writable fails by itself, once the write under way has.
    this.#endWriter();
    this.#carrier.reset(why);
    this.#failWrite(reason);
  }

  #failWrite(reason: Error): void {
    this.#unsent?.done.reject(reason);
    this.#unsent = undefined;
  }

  #failReader(reason: Error): void {
    this.#reader?.error(reason);
    this.#endReader();
    this.#letFlow();
  }

  #endReader(): void {
    if (this.#reader === undefined) return;
    this.#reader = undefined;
    if (this.#writer === undefined) this.#onOver();
  }

  #endWriter(): void {
    if (this.#writer === undefined) return;
    this.#writer = undefined;
    if (this.#reader === undefined) this.#onOver();
  }

  #letFlow(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#carrier.resume();
  }
}
