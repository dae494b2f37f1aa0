import { Code, ConnectError } from "@connectrpc/connect";
import { compressedFlag } from "@connectrpc/connect/protocol";
import type { Compression } from "@connectrpc/connect/protocol";
import { EnvelopeParser } from "../wire/envelope.ts";
import { allocateUncleared } from "./memory.ts";
import type { BodyReceiver, HttpExchange } from "./exchange.ts";

export interface RequestMessagesOptions<T> {
  readonly exchange: Pick<HttpExchange, "receive" | "pause" | "resume">;
  readonly parse: (payload: Uint8Array) => T;
  /** How compressed messages are understood; null if the request named no compression. */
  readonly compression: Compression | null;
  /** Bytes. A larger message fails with RESOURCE_EXHAUSTED. */
  readonly maxMessageBytes: number;
  /** Bytes of messages that wait for the handler before the peer is asked to pause. */
  readonly maxQueuedBytes: number;
  /** A flag that only responses may carry. */
  readonly endFlag: number | undefined;
  readonly onMessage: () => void;
  readonly onBytes: (count: number) => void;
}

interface Envelope {
  readonly flags: number;
  readonly payload: Uint8Array;
}

type Waiter<T> = PromiseWithResolvers<IteratorResult<T, undefined>>;

/**
 * The messages of a request, for one handler. Every whole envelope of a chunk is
 * taken out at once, and parsed when the handler asks for it; while the handler
 * is slower than the peer, the peer is paused.
 */
export class RequestMessages<T> implements AsyncIterableIterator<T, undefined>, BodyReceiver {
  readonly #options: RequestMessagesOptions<T>;
  readonly #parser: EnvelopeParser;
  #queue: Envelope[] = [];
  #head = 0;
  #queuedBytes = 0;
  #paused = false;
  #waiters: Waiter<T>[] = [];
  #state: { readonly kind: "open" } | { readonly kind: "ended" } | { readonly kind: "failed"; readonly error: Error } =
    { kind: "open" };
  /** The last asynchronous decompression: what comes after it waits for it. */
  #inflating: Promise<unknown> | undefined;

  constructor(options: RequestMessagesOptions<T>) {
    this.#options = options;
    this.#parser = new EnvelopeParser(options.maxMessageBytes, allocateUncleared);
  }

  /** Begins to read. */
  start(): void {
    this.#options.exchange.receive(this);
  }

  onChunk(chunk: Uint8Array): void {
    this.#options.onBytes(chunk.byteLength);
    if (this.#state.kind !== "open") return;
    try {
      this.#parser.push(chunk, this.#take);
    } catch (error) {
      this.fail(toError(error));
      return;
    }
    if (this.#queuedBytes > this.#options.maxQueuedBytes && !this.#paused) {
      this.#paused = true;
      this.#options.exchange.pause();
    }
  }

  onEnd(): void {
    if (this.#state.kind !== "open") return;
    try {
      this.#parser.end();
    } catch (error) {
      this.fail(toError(error));
      return;
    }
    this.#state = { kind: "ended" };
    this.#settleWaiters();
  }

  /** What waits is still delivered, unless `now`; then the handler gets the error. */
  fail(error: Error, now = false): void {
    if (now) this.#drop();
    if (this.#state.kind === "failed" || (this.#state.kind === "ended" && !now)) return;
    this.#state = { kind: "failed", error };
    this.#settleWaiters();
    this.#letFlow();
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#inflating !== undefined) {
      // In the order of the calls, whatever is compressed and what is not.
      const after = this.#inflating.then(() => this.#now());
      this.#inflating = after.catch(() => undefined);
      return after;
    }
    return this.#now();
  }

  /** The handler wants no more. What the peer still sends is read and dropped, so that it gets the answer. */
  return(): Promise<IteratorResult<T, undefined>> {
    this.#drop();
    if (this.#state.kind === "open") this.#state = { kind: "ended" };
    this.#settleWaiters();
    this.#letFlow();
    return Promise.resolve({ done: true, value: undefined });
  }

  throw(error?: unknown): Promise<IteratorResult<T, undefined>> {
    void this.return();
    return Promise.reject(toError(error));
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #now(): Promise<IteratorResult<T, undefined>> {
    const item = this.#queue[this.#head];
    if (item === undefined) {
      if (this.#state.kind === "ended") return Promise.resolve({ done: true, value: undefined });
      if (this.#state.kind === "failed") return Promise.reject(this.#state.error);
      const waiter: Waiter<T> = Promise.withResolvers();
      this.#waiters.push(waiter);
      return waiter.promise;
    }
    this.#head++;
    if (this.#head === this.#queue.length) {
      this.#queue = [];
      this.#head = 0;
    }
    this.#queuedBytes -= item.payload.byteLength;
    if (this.#paused && this.#queuedBytes <= this.#options.maxQueuedBytes / 2) this.#letFlow();
    if ((item.flags & compressedFlag) !== 0) return this.#inflate(item);
    try {
      return Promise.resolve(this.#open(item.flags, item.payload));
    } catch (error) {
      return Promise.reject(toError(error));
    }
  }

  readonly #take = (flags: number, payload: Uint8Array): void => {
    this.#options.onMessage();
    const waiter = this.#waiters.shift();
    if (waiter === undefined) {
      this.#queue.push({ flags, payload });
      this.#queuedBytes += payload.byteLength;
    } else if ((flags & compressedFlag) !== 0) {
      waiter.resolve(this.#inflate({ flags, payload }));
    } else if (this.#inflating !== undefined) {
      waiter.resolve(this.#inflating.then(() => this.#open(flags, payload)));
    } else {
      try {
        waiter.resolve(this.#open(flags, payload));
      } catch (error) {
        waiter.reject(error);
      }
    }
  };

  #open(flags: number, payload: Uint8Array): IteratorResult<T, undefined> {
    const { endFlag, parse } = this.#options;
    try {
      if (endFlag !== undefined && (flags & endFlag) === endFlag) {
        throw new ConnectError("unexpected end flag", Code.InvalidArgument);
      }
      return { done: false, value: parse(payload) };
    } catch (error) {
      // After a message that cannot be read, nothing later is.
      this.fail(toError(error), true);
      throw error;
    }
  }

  #inflate({ flags, payload }: Envelope): Promise<IteratorResult<T, undefined>> {
    const { compression, maxMessageBytes } = this.#options;
    const opened = (async () => {
      try {
        if (compression === null) {
          throw new ConnectError("received compressed envelope, but do not know how to decompress", Code.Internal);
        }
        const plain = await compression.decompress(payload, maxMessageBytes);
        return this.#open(flags, plain);
      } catch (error) {
        this.fail(toError(error), true);
        throw error;
      }
    })();
    this.#inflating = opened.catch(() => undefined);
    return opened;
  }

  #settleWaiters(): void {
    if (this.#state.kind === "open") return;
    for (const waiter of this.#waiters.splice(0)) {
      if (this.#state.kind === "failed") waiter.reject(this.#state.error);
      else waiter.resolve({ done: true, value: undefined });
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
    this.#options.exchange.resume();
  }
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error), { cause: error });
}
