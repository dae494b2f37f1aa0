import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { Pieces } from "./byte-sink.ts";
import type { ByteSink } from "./byte-sink.ts";
import type { MessageEncoder } from "./message-encoder.ts";

/** One byte of flags and four of length (https://connectrpc.com/docs/protocol#streaming-rpcs). */
const prefixLength = 5;

/** The first allocation for a message that comes in parts, at most. */
const firstPartBytes = 4096;

/** Payloads up to this length are copied together into one write; longer ones are passed on as they are. */
const joinMaxBytes = 8192;

/** Gets each envelope's flags and payload; the payload may be a view of the chunk that it came in. */
export type EnvelopeSink = (flags: number, payload: Uint8Array) => void;

export interface EnvelopeParserOptions {
  /** Bytes. A larger payload fails with RESOURCE_EXHAUSTED before it has been read. */
  readonly maxMessageBytes: number;
  /** The code of a body that ends within an envelope. */
  readonly truncated: Code;
  /** May give memory that has not been cleared. */
  readonly allocate?: (size: number) => Uint8Array<ArrayBuffer>;
}

/**
 * Takes the envelopes out of a body, however it is cut into chunks: every whole
 * envelope of a chunk at once, and without a copy if the chunk is not lent. One
 * that spans chunks is copied, into memory that grows with what has arrived and
 * never with what a length prefix promises.
 */
export class EnvelopeParser {
  readonly #maxBytes: number;
  readonly #truncated: Code;
  readonly #allocate: (size: number) => Uint8Array<ArrayBuffer>;
  readonly #prefix = new Uint8Array(prefixLength);
  #prefixHave = 0;
  #length = 0;
  #part: Uint8Array | undefined;
  #partHave = 0;

  constructor(options: EnvelopeParserOptions) {
    this.#maxBytes = options.maxMessageBytes;
    this.#truncated = options.truncated;
    this.#allocate = options.allocate ?? ((size) => new Uint8Array(size));
  }

  /** Bytes of an envelope that has not arrived whole. */
  get pendingBytes(): number {
    return this.#prefixHave + this.#partHave;
  }

  /** Bytes of memory for an envelope that has not arrived whole. */
  get allocatedBytes(): number {
    return this.#part?.byteLength ?? 0;
  }

  /** Forgets an envelope that has not arrived whole; nothing is pushed after it. */
  drop(): void {
    this.#part = undefined;
  }

  /** With `lent` the chunk's memory is written again afterwards: what is whole in it is copied then, all in one. */
  push(chunk: Uint8Array, sink: EnvelopeSink, lent = false): void {
    const end = chunk.byteLength;
    let at = this.#prefixHave > 0 ? this.#resume(chunk, sink, lent) : 0;
    const whole = lent ? wholeUntil(chunk, at) : at;
    if (whole > at) {
      const own = this.#allocate(whole - at);
      own.set(chunk.subarray(at, whole));
      at = whole;
      this.push(own, sink);
    }
    while (at < end) {
      if (end - at < prefixLength) {
        this.#prefix.set(chunk.subarray(at));
        this.#prefixHave = end - at;
        return;
      }
      const length = this.#checked(readLength(chunk, at + 1));
      const payloadAt = at + prefixLength;
      if (end - payloadAt < length) {
        this.#prefix.set(chunk.subarray(at, payloadAt));
        this.#prefixHave = prefixLength;
        this.#length = length;
        this.#append(chunk.subarray(payloadAt));
        return;
      }
      at = payloadAt + length;
      sink(chunk[payloadAt - prefixLength] ?? 0, chunk.subarray(payloadAt, at));
    }
  }

  /** The body is over. Fails if it ended within an envelope. */
  end(): void {
    if (this.pendingBytes > 0) {
      throw new ConnectError("protocol error: incomplete envelope", this.#truncated);
    }
  }

  /** Goes on with the envelope that the chunk before left open; returns how much of this chunk that took. */
  #resume(chunk: Uint8Array, sink: EnvelopeSink, lent: boolean): number {
    let at = 0;
    if (this.#prefixHave < prefixLength) {
      at = Math.min(prefixLength - this.#prefixHave, chunk.byteLength);
      this.#prefix.set(chunk.subarray(0, at), this.#prefixHave);
      this.#prefixHave += at;
      if (this.#prefixHave < prefixLength) return at;
      this.#length = this.#checked(readLength(this.#prefix, 1));
    }
    const rest = this.#length - this.#partHave;
    const end = Math.min(at + rest, chunk.byteLength);
    if (this.#part === undefined && end - at === rest && (!lent || rest === 0)) {
      this.#finish(chunk.subarray(at, end), sink);
    } else {
      this.#append(chunk.subarray(at, end));
      if (this.#part !== undefined && this.#partHave === this.#length) this.#finish(this.#part, sink);
    }
    return end;
  }

  #finish(payload: Uint8Array, sink: EnvelopeSink): void {
    this.#prefixHave = 0;
    this.#part = undefined;
    this.#partHave = 0;
    sink(this.#prefix[0] ?? 0, payload);
  }

  #append(bytes: Uint8Array): void {
    const have = this.#partHave + bytes.byteLength;
    if (have === 0) return;
    if (this.#part === undefined || this.#part.byteLength < have) {
      const grown = this.#allocate(Math.min(this.#length, Math.max(firstPartBytes, have * 8)));
      if (this.#part !== undefined) grown.set(this.#part.subarray(0, this.#partHave));
      this.#part = grown;
    }
    this.#part.set(bytes, this.#partHave);
    this.#partHave = have;
  }

  #checked(length: number): number {
    if (length > this.#maxBytes) {
      throw new ConnectError(
        `message size ${length} is larger than configured readMaxBytes ${this.#maxBytes}`,
        Code.ResourceExhausted,
      );
    }
    return length;
  }
}

/**
 * Collects envelopes and gives them as few pieces to write: small ones joined,
 * large payloads as they are.
 */
export class EnvelopeWriter {
  readonly #sink: ByteSink;
  readonly #pieces: Pieces;

  constructor(sink: ByteSink) {
    this.#sink = sink;
    this.#pieces = new Pieces(sink);
  }

  /** Bytes to write, prefixes included. */
  get byteLength(): number {
    return this.#pieces.byteLength;
  }

  /** Adds an envelope with the payload; a large one is not copied. */
  add(flags: number, payload: Uint8Array): void {
    const sink = this.#sink;
    const length = payload.byteLength;
    const joined = length <= joinMaxBytes;
    sink.beginItem();
    sink.reserve(joined ? prefixLength + length : prefixLength);
    sink.pos += prefixLength;
    if (joined) {
      sink.bytes.set(payload, sink.pos);
      sink.pos += length;
    }
    writePrefix(sink, flags, length);
    this.#pieces.addItem();
    if (!joined) this.#pieces.add(payload);
  }

  /** Adds an envelope with the message; false, and nothing is added, if the encoder does not know it. */
  addMessage(flags: number, message: Message, encode: MessageEncoder): boolean {
    const sink = this.#sink;
    sink.beginItem();
    sink.reserve(prefixLength);
    sink.pos += prefixLength;
    if (!encode(sink, message)) {
      sink.rewind();
      return false;
    }
    writePrefix(sink, flags, sink.pos - sink.begin - prefixLength);
    this.#pieces.addItem();
    return true;
  }

  /** What has been added since the last time; `release` is to be called once it has been sent. */
  take(): ReturnType<Pieces["take"]> {
    return this.#pieces.take();
  }
}

/** At the beginning of the sink's item. */
function writePrefix({ bytes, begin }: ByteSink, flags: number, length: number): void {
  bytes[begin] = flags;
  bytes[begin + 1] = length >>> 24;
  bytes[begin + 2] = length >>> 16;
  bytes[begin + 3] = length >>> 8;
  bytes[begin + 4] = length;
}

/** Where the last envelope ends that is whole in the chunk. */
function wholeUntil(chunk: Uint8Array, from: number): number {
  let at = from;
  while (chunk.byteLength - at >= prefixLength) {
    const next = at + prefixLength + readLength(chunk, at + 1);
    if (next > chunk.byteLength) break;
    at = next;
  }
  return at;
}

/** Four bytes, big-endian, unsigned. */
function readLength(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at] as number) * 0x1000000 +
    (((bytes[at + 1] as number) << 16) | ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number))
  );
}
