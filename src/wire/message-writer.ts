import type { Message } from "@bufbuild/protobuf";
import { compressedFlag } from "@connectrpc/connect/protocol";
import type { Compression } from "@connectrpc/connect/protocol";
import type { ByteSink } from "./byte-sink.ts";
import { EnvelopeWriter } from "./envelope.ts";
import type { MessageEncoder } from "./message-encoder.ts";

/** What is written together at most, in bytes, before the peer's window is looked at. */
const flushBytes = 64 * 1024;

/** What is written in one turn of the event loop at most, in bytes, so that a fast stream does not hold up the others. */
const turnBytes = 512 * 1024;

/** How messages become payloads. */
export interface WriterCodec {
  readonly serialize: (message: Message) => Uint8Array;
  /** The faster way, for what it knows. */
  readonly encode: MessageEncoder | undefined;
}

/** The event loop, as the platform has it. */
export interface Turns {
  /** Runs when the promises that are ready now have run. */
  readonly defer: (run: () => void) => void;
  /** Runs after input and output have had their turn. */
  readonly next: (run: () => void) => void;
}

export interface MessageWriterOptions {
  /** False if the peer does not keep up: then `drained` is to be called later. `sent`: the memory may be written again. */
  readonly write: (pieces: readonly Uint8Array[], sent: () => void) => boolean;
  readonly sink: ByteSink;
  readonly codec: WriterCodec;
  readonly compression: Compression | null;
  readonly compressMinBytes: number;
  readonly turns: Turns;
}

/**
 * Writes messages to a body. Those that are added in one turn of the event loop
 * leave together at its end, and none is held back longer.
 */
export class MessageWriter {
  readonly #options: MessageWriterOptions;
  readonly #envelopes: EnvelopeWriter;
  #scheduled = false;
  #writtenThisTurn = 0;
  #blocked = false;
  #unblock: (() => void) | undefined;
  #closed = false;

  constructor(options: MessageWriterOptions) {
    this.#options = options;
    this.#envelopes = new EnvelopeWriter(options.sink);
  }

  /** Whether nothing more can be written. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Adds a message. If a promise is returned, the next message has to wait for it: that is the backpressure. */
  add(message: Message): Promise<void> | undefined {
    if (this.#closed) return undefined;
    const { codec, compression, compressMinBytes } = this.#options;
    if (compression === null) {
      if (codec.encode === undefined || !this.#envelopes.addMessage(0, message, codec.encode)) {
        this.#envelopes.add(0, codec.serialize(message));
      }
      return this.#added();
    }
    const payload = codec.serialize(message);
    if (payload.byteLength < compressMinBytes) {
      this.#envelopes.add(0, payload);
      return this.#added();
    }
    return compression.compress(payload).then((compressed) => {
      if (this.#closed) return undefined;
      this.#envelopes.add(compressedFlag, compressed);
      return this.#added();
    });
  }

  /** Writes what there is, with one more envelope. Nothing is written after it. */
  end(last?: { readonly flags: number; readonly payload: Uint8Array }): void {
    if (this.#closed) return;
    if (last !== undefined) this.#envelopes.add(last.flags, last.payload);
    this.#flush();
    this.close();
  }

  /** The peer keeps up again. */
  drained(): void {
    this.#blocked = false;
    this.#wake();
  }

  /** The body is over: nobody waits any more. */
  close(): void {
    this.#closed = true;
    this.#wake();
  }

  #added(): Promise<void> | undefined {
    if (this.#envelopes.byteLength >= flushBytes) {
      this.#flush();
      if (!this.#blocked && this.#writtenThisTurn >= turnBytes) return this.#nextTurn();
    } else if (!this.#scheduled) {
      this.#scheduled = true;
      // The sender has then given what it had.
      this.#options.turns.defer(this.#flushScheduled);
    }
    return this.#blocked ? this.#unblocked() : undefined;
  }

  readonly #flushScheduled = (): void => {
    this.#scheduled = false;
    this.#flush();
    this.#writtenThisTurn = 0;
  };

  #flush(): void {
    const count = this.#envelopes.byteLength;
    if (count === 0 || this.#closed) return;
    const { pieces, release } = this.#envelopes.take();
    this.#writtenThisTurn += count;
    if (!this.#options.write(pieces, release)) this.#blocked = true;
  }

  #unblocked(): Promise<void> {
    return new Promise((resolve) => {
      this.#unblock = resolve;
    });
  }

  #nextTurn(): Promise<void> {
    return new Promise((resolve) => {
      this.#options.turns.next(() => {
        this.#writtenThisTurn = 0;
        resolve();
      });
    });
  }

  #wake(): void {
    this.#unblock?.();
    this.#unblock = undefined;
  }
}
