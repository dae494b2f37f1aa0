import { compressedFlag } from "@connectrpc/connect/protocol";
import type { Compression } from "@connectrpc/connect/protocol";
import { EnvelopeWriter } from "../wire/envelope.ts";
import type { HttpExchange } from "./exchange.ts";
import type { StreamEnd } from "./stream-protocols.ts";

/** What is written together at most, in bytes, before the peer's window is looked at. */
const flushBytes = 64 * 1024;

/** What is written in one turn of the event loop at most, in bytes, so that a fast stream does not hold up the others. */
const turnBytes = 512 * 1024;

export interface ResponseWriterOptions {
  readonly exchange: HttpExchange;
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
  readonly #envelopes = new EnvelopeWriter();
  #scheduled = false;
  #writtenThisTurn = 0;
  #blocked = false;
  #unblock: (() => void) | undefined;
  #ended = false;

  constructor(options: ResponseWriterOptions) {
    this.#options = options;
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
  add(payload: Uint8Array): Promise<void> | undefined {
    const { compression, compressMinBytes } = this.#options;
    if (compression !== null && payload.byteLength >= compressMinBytes) {
      return compression.compress(payload).then((compressed) => this.#add(compressedFlag, compressed));
    }
    return this.#add(0, payload);
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

  #add(flags: number, payload: Uint8Array): Promise<void> | undefined {
    if (this.#ended) return undefined;
    this.#envelopes.add(flags, payload);
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
    const pieces = this.#envelopes.take();
    this.#options.onBytes(count);
    this.#writtenThisTurn += count;
    if (!this.#options.exchange.write(pieces)) this.#blocked = true;
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
