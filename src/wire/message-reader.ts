import { Code, ConnectError } from "@connectrpc/connect";
import { compressedFlag } from "@connectrpc/connect/protocol";
import type { Compression } from "@connectrpc/connect/protocol";
import { EnvelopeParser } from "./envelope.ts";
import type { ChunkReceiver } from "./lent.ts";

export interface MessageReaderOptions<T> {
  /** Where the chunks come from. After `pause` some may still come. */
  readonly source: { pause(): void; resume(): void };
  readonly parse: (payload: Uint8Array) => T;
  /** How compressed messages are understood; null if no compression was agreed on. */
  readonly compression: Compression | null;
  /** Bytes. A larger message fails with RESOURCE_EXHAUSTED. */
  readonly maxMessageBytes: number;
  /** Bytes of messages that wait for the reader before the source is paused. */
  readonly maxQueuedBytes: number;
  /** The code of a body that ends within a message. */
  readonly truncated: Code;
  /** An envelope with this flag is no message. `take` gets what it holds, and may throw what the call has failed with. */
  readonly end?: { readonly flag: number; readonly take: (payload: Uint8Array) => void };
  /** The body is over and its messages have been read; may throw, if that is not how it should end. */
  readonly onComplete?: () => void;
  /** Reading has failed, before anybody who reads is told. */
  readonly onFailure?: (error: Error) => void;
  readonly onMessage?: () => void;
  readonly onBytes?: (count: number) => void;
  /** May give memory that has not been cleared. */
  readonly allocate?: (size: number) => Uint8Array<ArrayBuffer>;
}

/** What a message that waits costs besides its payload, in bytes: without it, empty ones would wait without bound. */
const waitingBytes = 64;

interface Envelope {
  readonly flags: number;
  readonly payload: Uint8Array;
}

type Result<T> = IteratorResult<T, undefined>;

/**
 * The messages of a body, for one reader. Every whole envelope of a chunk is
 * taken out at once, and parsed when the reader asks for it; while the reader is
 * slower than the peer, the peer is paused.
 */
export class MessageReader<T> implements AsyncIterableIterator<T, undefined>, ChunkReceiver {
  readonly #options: MessageReaderOptions<T>;
  readonly #parser: EnvelopeParser;
  #queue: Envelope[] = [];
  #head = 0;
  #queuedBytes = 0;
  #paused = false;
  #waiters: PromiseWithResolvers<Result<T>>[] = [];
  #ended = false;
  #complete = false;
  #failure: Error | undefined;

  constructor(options: MessageReaderOptions<T>) {
    this.#options = options;
    this.#parser = new EnvelopeParser(options);
  }

  onChunk(chunk: Uint8Array): void {
    this.#push(chunk, false);
  }

  onLent(chunk: Uint8Array): void {
    this.#push(chunk, true);
  }

  #push(chunk: Uint8Array, lent: boolean): void {
    this.#options.onBytes?.(chunk.byteLength);
    if (this.#ended || this.#failure !== undefined) return;
    try {
      this.#parser.push(chunk, this.#take, lent);
    } catch (error) {
      this.#failOf(error);
      return;
    }
    if (this.#queuedBytes > this.#options.maxQueuedBytes && !this.#paused) {
      this.#paused = true;
      this.#options.source.pause();
    }
  }

  onEnd(): void {
    if (this.#ended || this.#failure !== undefined) return;
    try {
      this.#parser.end();
    } catch (error) {
      this.#failOf(error);
      return;
    }
    this.#ended = true;
    this.#settle();
  }

  /** Messages that wait are still read, unless `now`; then the reader gets the error. */
  fail(error: Error, now = false): void {
    if (now) this.#drop();
    if (this.#failure !== undefined || (this.#ended && !now)) return;
    this.#failure = error;
    this.#settle();
    this.#letFlow();
  }

  next(): Promise<Result<T>> {
    for (let item = this.#queue[this.#head]; item !== undefined; item = this.#queue[this.#head]) {
      this.#head++;
      if (this.#head === this.#queue.length) {
        this.#queue = [];
        this.#head = 0;
      }
      this.#queuedBytes -= item.payload.byteLength + waitingBytes;
      if (this.#paused && this.#queuedBytes <= this.#options.maxQueuedBytes / 2) this.#letFlow();
      if ((item.flags & compressedFlag) !== 0) return this.#inflate(item.flags, item.payload);
      try {
        const result = this.#open(item.flags, item.payload);
        if (result !== undefined) return Promise.resolve(result);
      } catch (error) {
        return Promise.reject(toError(error));
      }
    }
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const waiter = Promise.withResolvers<Result<T>>();
    this.#waiters.push(waiter);
    if (this.#ended) this.#settle();
    return waiter.promise;
  }

  /** The reader wants no more. What the peer still sends is dropped, so that it is not kept from its own reading. */
  return(): Promise<Result<T>> {
    this.#drop();
    this.#complete = true;
    this.#ended = true;
    this.#settle();
    this.#letFlow();
    return Promise.resolve({ done: true, value: undefined });
  }

  throw(error?: unknown): Promise<Result<T>> {
    void this.return();
    return Promise.reject(toError(error));
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  readonly #take = (flags: number, payload: Uint8Array): void => {
    this.#options.onMessage?.();
    const waiter = this.#waiters.shift();
    if (waiter === undefined) {
      this.#queue.push({ flags, payload });
      this.#queuedBytes += payload.byteLength + waitingBytes;
    } else if ((flags & compressedFlag) !== 0) {
      waiter.resolve(this.#inflate(flags, payload));
    } else {
      try {
        const result = this.#open(flags, payload);
        if (result === undefined) this.#waiters.unshift(waiter);
        else waiter.resolve(result);
      } catch (error) {
        waiter.reject(error);
      }
    }
  };

  /** Undefined if it was no message. */
  #open(flags: number, payload: Uint8Array): Result<T> | undefined {
    const { end, parse } = this.#options;
    try {
      if (end !== undefined && (flags & end.flag) === end.flag) {
        end.take(payload);
        return undefined;
      }
      return { done: false, value: parse(payload) };
    } catch (error) {
      // After a message that cannot be read, nothing later is.
      this.#failOf(error, true);
      throw error;
    }
  }

  async #inflate(flags: number, payload: Uint8Array): Promise<Result<T>> {
    const { compression, maxMessageBytes } = this.#options;
    let plain: Uint8Array;
    try {
      if (compression === null) {
        throw new ConnectError("received compressed envelope, but do not know how to decompress", Code.Internal);
      }
      plain = await compression.decompress(payload, maxMessageBytes);
    } catch (error) {
      this.#failOf(error, true);
      throw error;
    }
    return this.#open(flags, plain) ?? this.next();
  }

  #failOf(error: unknown, now = false): void {
    const failure = toError(error);
    if (this.#failure === undefined) this.#options.onFailure?.(failure);
    this.fail(failure, now);
  }

  /** Tells those who wait how it has ended. */
  #settle(): void {
    if (this.#failure === undefined && !this.#ended) return;
    if (this.#head < this.#queue.length) return;
    if (this.#failure === undefined && !this.#complete && this.#waiters.length > 0) {
      this.#complete = true;
      try {
        this.#options.onComplete?.();
      } catch (error) {
        this.#failure = toError(error);
        this.#options.onFailure?.(this.#failure);
      }
    }
    for (const waiter of this.#waiters.splice(0)) {
      if (this.#failure === undefined) waiter.resolve({ done: true, value: undefined });
      else waiter.reject(this.#failure);
    }
  }

  #drop(): void {
    this.#queue = [];
    this.#head = 0;
    this.#queuedBytes = 0;
  }

  #letFlow(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#options.source.resume();
  }
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error), { cause: error });
}
