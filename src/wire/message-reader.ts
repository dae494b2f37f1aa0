import { Code, ConnectError } from "@connectrpc/connect";
import { compressedFlag } from "@connectrpc/connect/protocol";
import type { Compression } from "@connectrpc/connect/protocol";
import { EnvelopeParser } from "./envelope.ts";
import { inflate } from "./inflate.ts";
import type { ChunkReceiver } from "./lent.ts";
import type { MemoryAccount } from "./memory-account.ts";
import { unweighedBytes } from "./weight-limits.ts";

/** How a reader counts the memory that it, and who reads from it, holds. */
export interface ReaderMemory {
  readonly account: MemoryAccount;
  /** The bytes that a message takes once it is decoded; throws for one that must not be decoded. */
  readonly weigh: (payload: Uint8Array) => number;
  /** Bytes that the peer may still send while the source is paused. */
  readonly pausedBytes: number;
  /** The body has one message, which its reader keeps after it has asked for the next. */
  readonly single: boolean;
  /** Takes over the charge of a message, to release it when nothing refers to the message; false leaves it to `return`. */
  onHeld?(message: object, bytes: number): boolean;
}

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
  readonly end?: { readonly flag: number; readonly take: (payload: Uint8Array) => void } | undefined;
  /** The body is over and its messages have been read; may throw, if that is not how it should end. */
  readonly onComplete?: () => void;
  /** Reading has failed, before anybody who reads is told. */
  readonly onFailure?: (error: Error) => void;
  readonly onMessage?: () => void;
  readonly onBytes?: (count: number) => void;
  /** May give memory that has not been cleared. */
  readonly allocate?: (size: number) => Uint8Array<ArrayBuffer>;
  /** Runs after the current turn of the event loop. To be given if chunks may be small parts of their memory. */
  readonly nextTurn?: ((run: () => void) => void) | undefined;
  readonly memory?: ReaderMemory;
}

/** Bytes that wait, up to this, are not counted: each open call is charged for more than that. */
const uncountedBytes = 4096;

/** A chunk that is a smaller part of its memory than this must not keep the rest from being freed. */
const leastShare = 1 / 8;

/** What a message that waits costs besides its payload, in bytes: without it, empty ones would wait without bound. */
const waitingBytes = 64;

interface Envelope {
  readonly flags: number;
  payload: Uint8Array;
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
  /** Messages that wait when this turn is over are copied. */
  #copies = false;
  /** How many at the front of the queue have been. */
  #copied = 0;
  /** Bytes that are counted, of what waits and of the message that has been read last. */
  #counted = 0;
  #held = 0;

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
    if (this.#queue.length > 0 && !this.#copies && !lent && chunk.byteLength < chunk.buffer.byteLength * leastShare) {
      this.#copyLater();
    }
    this.#count();
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
    if (this.#held > 0 && this.#options.memory?.single !== true) this.#hold(0);
    for (let item = this.#queue[this.#head]; item !== undefined; item = this.#queue[this.#head]) {
      this.#head++;
      if (this.#head === this.#queue.length) {
        this.#queue = [];
        this.#head = 0;
        this.#copied = 0;
      }
      this.#queuedBytes -= item.payload.byteLength + waitingBytes;
      if (this.#paused && this.#queuedBytes <= this.#options.maxQueuedBytes / 2) this.#letFlow();
      // Not for each message: the next chunk counts anew too.
      if (this.#head === 0 && this.#counted > 0) this.#count();
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
    this.#hold(0);
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
    const options = this.#options;
    const { end, memory } = options;
    try {
      if (end !== undefined && (flags & end.flag) === end.flag) {
        end.take(payload);
        return undefined;
      }
      if (memory === undefined || payload.byteLength <= unweighedBytes) {
        return { done: false, value: options.parse(payload) };
      }
      this.#hold(memory.weigh(payload));
      const value = options.parse(payload);
      if (typeof value === "object" && value !== null && memory.onHeld?.(value, this.#held) === true) this.#held = 0;
      return { done: false, value };
    } catch (error) {
      // After a message that cannot be read, nothing later is.
      this.#failOf(error, true);
      throw error;
    }
  }

  async #inflate(flags: number, payload: Uint8Array): Promise<Result<T>> {
    const { compression, maxMessageBytes, memory } = this.#options;
    let plain: Uint8Array;
    try {
      if (compression === null) {
        throw new ConnectError("received compressed envelope, but do not know how to decompress", Code.Internal);
      }
      plain = await inflate(compression, payload, maxMessageBytes, memory?.account);
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
    this.#copied = 0;
    this.#queuedBytes = 0;
    this.#parser.drop();
    this.#options.memory?.account.release(this.#counted);
    this.#counted = 0;
  }

  /** Copies what still waits when the turn is over: a reader that keeps up has taken it by then. */
  #copyLater(): void {
    const { nextTurn } = this.#options;
    if (nextTurn === undefined) return;
    this.#copies = true;
    nextTurn(() => {
      this.#copies = false;
      this.#copyWaiting();
    });
  }

  #copyWaiting(): void {
    const waiting = this.#queue.slice(Math.max(this.#head, this.#copied));
    this.#copied = this.#queue.length;
    let bytes = 0;
    for (const { payload } of waiting) bytes += payload.byteLength;
    const memory = new Uint8Array(bytes);
    let to = 0;
    for (const envelope of waiting) {
      memory.set(envelope.payload, to);
      envelope.payload = memory.subarray(to, (to += envelope.payload.byteLength));
    }
  }

  /** Counts what waits for the reader, or has not arrived whole. */
  #count(): void {
    const { memory } = this.#options;
    if (memory === undefined) return;
    let bytes = this.#queuedBytes + this.#parser.allocatedBytes;
    if (this.#paused) bytes += memory.pausedBytes;
    if (bytes <= uncountedBytes) bytes = 0;
    const more = bytes - this.#counted;
    if (more > 0 && !memory.account.charge(more)) {
      this.#failOf(memory.account.exhausted(), true);
      return;
    }
    if (more < 0) memory.account.release(-more);
    this.#counted = bytes;
  }

  /** Counts the message that has been read last; throws if there is no memory for it. */
  #hold(bytes: number): void {
    const { memory } = this.#options;
    if (memory === undefined || bytes === this.#held) return;
    memory.account.release(this.#held);
    this.#held = 0;
    if (bytes > 0 && !memory.account.charge(bytes)) throw memory.account.exhausted();
    this.#held = bytes;
  }

  #letFlow(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#options.source.resume();
    if (this.#counted > 0) this.#count();
  }
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error), { cause: error });
}
