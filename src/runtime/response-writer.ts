import type { Message } from "@bufbuild/protobuf";
import { compressedFlag } from "@connectrpc/connect/protocol";
import type { Compression } from "@connectrpc/connect/protocol";
import type { ByteSink } from "../wire/byte-sink.ts";
import { EnvelopeWriter } from "../wire/envelope.ts";
import type { MessageEncoder } from "../wire/message-encoder.ts";
import type { HttpExchange } from "./exchange.ts";
import type { StreamEnd } from "./stream-protocols.ts";

/** What is written together at most, in bytes, before the peer's window is looked at. */
const flushBytes = 64 * 1024;

/** What is written in one turn of the event loop at most, in bytes, so that a fast stream does not hold up the others. */
const turnBytes = 512 * 1024;

/** How messages become payloads. */
export interface ResponseCodec {
  readonly serialize: (message: Message) => Uint8Array;
  /** The faster way, for what it knows. */
  readonly encode: MessageEncoder | undefined;
}

export interface ResponseWriterOptions {
  readonly exchange: HttpExchange;
  readonly sink: ByteSink;
  readonly codec: ResponseCodec;
  readonly header: Headers;
  readonly compression: Compression | null;
  readonly compressMinBytes: number;
  readonly onBytes: (count: number) => void;
}

/**
 * Writes a streamed response. Messages that are added in one turn of the event
 * loop leave together at its end, and none is held back longer.
 */
export class ResponseWriter {
  readonly #options: ResponseWriterOptions;
  readonly #envelopes: EnvelopeWriter;
  #scheduled = false;
  #writtenThisTurn = 0;
  #blocked = false;
  #unblock: (() => void) | undefined;
  #ended = false;

  constructor(options: ResponseWriterOptions) {
    this.#options = options;
    this.#envelopes = new EnvelopeWriter(options.sink);
    options.exchange.onDrain(() => {
      this.#blocked = false;
      this.#wake();
    });
    options.exchange.onClose(() => {
      this.#ended = true;
      this.#wake();
    });
  }

  /** Whether nothing more can be written. */
  get ended(): boolean {
    return this.#ended;
  }

  sendHead(): void {
    if (!this.#ended) this.#options.exchange.sendHead(200, this.#options.header);
  }

  /** Adds a message. If a promise is returned, the next message has to wait for it: that is the backpressure. */
  add(message: Message): Promise<void> | undefined {
    if (this.#ended) return undefined;
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
      if (this.#ended) return undefined;
      this.#envelopes.add(compressedFlag, compressed);
      return this.#added();
    });
  }

  /** Ends the response. Nothing is sent after it. */
  end({ envelope, trailer }: StreamEnd): void {
    if (this.#ended) return;
    if (envelope !== undefined) this.#envelopes.add(envelope.flags, envelope.payload);
    this.#flush();
    this.sendHead();
    this.#ended = true;
    this.#options.exchange.end(trailer);
    this.#wake();
  }

  #added(): Promise<void> | undefined {
    if (this.#envelopes.byteLength >= flushBytes) {
      this.#flush();
      if (this.#blocked) return this.#unblocked();
      if (this.#writtenThisTurn >= turnBytes) return this.#nextTurn();
    } else if (!this.#scheduled) {
      this.#scheduled = true;
      // Runs when the promises that are ready have run: the handler has then yielded what it had.
      process.nextTick(this.#flushScheduled);
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
    if (count === 0 || this.#ended) return;
    this.sendHead();
    const { pieces, release } = this.#envelopes.take();
    this.#options.onBytes(count);
    this.#writtenThisTurn += count;
    if (!this.#options.exchange.write(pieces, release)) this.#blocked = true;
  }

  #unblocked(): Promise<void> {
    return new Promise((resolve) => {
      this.#unblock = resolve;
    });
  }

  #nextTurn(): Promise<void> {
    return new Promise((resolve) => {
      setImmediate(() => {
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
