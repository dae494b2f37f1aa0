import { Code, ConnectError } from "@connectrpc/connect";

/** One byte of flags and four of length (https://connectrpc.com/docs/protocol#streaming-rpcs). */
const prefixLength = 5;

/** The first allocation for a message that comes in parts, at most. */
const firstPartBytes = 4096;

/** Payloads up to this length are copied together into one write; longer ones are passed on as they are. */
const joinMaxBytes = 8192;

/** Gets each envelope's flags and payload; the payload may be a view of the chunk that it came in. */
export type EnvelopeSink = (flags: number, payload: Uint8Array) => void;

/**
 * Takes the envelopes out of a body, however it is cut into chunks: every whole
 * envelope of a chunk at once, without a copy. Only one that spans chunks is
 * copied, into memory that grows with what has arrived and never with what a
 * length prefix promises.
 */
export class EnvelopeParser {
  readonly #maxBytes: number;
  readonly #prefix = new Uint8Array(prefixLength);
  #prefixHave = 0;
  #length = 0;
  #part: Uint8Array | undefined;
  #partHave = 0;

  /** A payload of more than `maxBytes` fails with RESOURCE_EXHAUSTED before it has been read. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes of an envelope that has not arrived whole. */
  get pendingBytes(): number {
    return this.#prefixHave + this.#partHave;
  }

  push(chunk: Uint8Array, sink: EnvelopeSink): void {
    const end = chunk.byteLength;
    let at = this.#prefixHave > 0 ? this.#resume(chunk, sink) : 0;
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
      throw new ConnectError("protocol error: incomplete envelope", Code.InvalidArgument);
    }
  }

  /** Goes on with the envelope that the chunk before left open; returns how much of this chunk that took. */
  #resume(chunk: Uint8Array, sink: EnvelopeSink): number {
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
    if (this.#part === undefined && end - at === rest) {
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
      const grown = new Uint8Array(Math.min(this.#length, Math.max(firstPartBytes, have * 4)));
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
  #flags: number[] = [];
  #payloads: Uint8Array[] = [];
  #bytes = 0;

  /** Bytes to write, prefixes included. */
  get byteLength(): number {
    return this.#bytes;
  }

  add(flags: number, payload: Uint8Array): void {
    this.#flags.push(flags);
    this.#payloads.push(payload);
    this.#bytes += prefixLength + payload.byteLength;
  }

  /** What has been added since the last time. */
  take(): Uint8Array[] {
    const flags = this.#flags;
    const payloads = this.#payloads;
    this.#flags = [];
    this.#payloads = [];
    this.#bytes = 0;
    const pieces: Uint8Array[] = [];
    for (let begin = 0; begin < payloads.length;) {
      let end = begin;
      let length = 0;
      let large: Uint8Array | undefined;
      // A large payload ends a piece: its prefix is the last of what is joined.
      while (end < payloads.length && large === undefined) {
        const payload = payloads[end++] as Uint8Array;
        length += prefixLength;
        if (payload.byteLength > joinMaxBytes) large = payload;
        else length += payload.byteLength;
      }
      const piece = new Uint8Array(length);
      let at = 0;
      for (let i = begin; i < end; i++) {
        const payload = payloads[i] as Uint8Array;
        const size = payload.byteLength;
        piece[at] = flags[i] as number;
        piece[at + 1] = size >>> 24;
        piece[at + 2] = size >>> 16;
        piece[at + 3] = size >>> 8;
        piece[at + 4] = size;
        at += prefixLength;
        if (size > joinMaxBytes) continue;
        piece.set(payload, at);
        at += size;
      }
      pieces.push(piece);
      if (large !== undefined) pieces.push(large);
      begin = end;
    }
    return pieces;
  }
}

/** Four bytes, big-endian, unsigned. */
function readLength(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at] as number) * 0x1000000 +
    (((bytes[at + 1] as number) << 16) | ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number))
  );
}
