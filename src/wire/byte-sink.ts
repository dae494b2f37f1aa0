/** How much is allocated at a time, in bytes. */
const chunkBytes = 64 * 1024;

/** Pieces that do not lie side by side are copied together beyond this number, because writing each has its price. */
const maxPieces = 16;

/** Chunks that are kept for later use, at most, and how large one of them may be, in bytes. */
const maxSpares = 8;
const maxSpareBytes = 1024 * 1024;

/** Memory that items lie in, and how many pieces of it are still to be sent. */
interface Chunk {
  readonly bytes: Uint8Array<ArrayBuffer>;
  users: number;
}

/**
 * Memory to encode into. The streams of a server share one sink: each writes
 * items, takes them as pieces to send, and says when they have been sent. Until
 * then they stay as they are; then their memory, which is still in the
 * processor's caches, is written again.
 */
export class ByteSink {
  /** What encoders write to, from `pos` on, within what `reserve` has promised. */
  bytes = new Uint8Array(0);
  pos = 0;
  readonly #allocate: (size: number) => Uint8Array<ArrayBuffer>;
  readonly #spares: Chunk[] = [];
  #chunk: Chunk = { bytes: this.bytes, users: 0 };
  #begin = 0;
  #view: DataView | undefined;

  /** `allocate` may give memory that has not been cleared. */
  constructor(allocate: (size: number) => Uint8Array<ArrayBuffer> = (size) => new Uint8Array(size)) {
    this.#allocate = allocate;
  }

  /** Where the item that is being written begins. */
  get begin(): number {
    return this.#begin;
  }

  /** Of `bytes`. */
  get view(): DataView {
    return (this.#view ??= new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength));
  }

  /** Begins an item: bytes that have to lie side by side. */
  beginItem(): void {
    // Everything before has been sent.
    if (this.#chunk.users === 0) this.pos = 0;
    this.#begin = this.pos;
  }

  /** Takes back what has been written of the item. */
  rewind(): void {
    this.pos = this.#begin;
  }

  /** Makes sure that `size` bytes can be written at `pos`. May move the item. */
  reserve(size: number): void {
    if (this.pos + size <= this.bytes.length) return;
    const written = this.pos - this.#begin;
    const needed = written + size;
    // What is large gets memory of its own. What grows doubles, so that it is not copied again for each of its fields.
    const chunk = this.#take(needed > chunkBytes / 4 ? needed + Math.max(written, 64) : chunkBytes);
    if (written > 0) chunk.bytes.set(this.bytes.subarray(this.#begin, this.pos));
    const before = this.#chunk;
    this.#chunk = chunk;
    this.bytes = chunk.bytes;
    this.#view = undefined;
    this.#begin = 0;
    this.pos = written;
    if (before.users === 0) this.#spare(before);
  }

  /** One more piece lies in the chunk that is being written. */
  use(): Chunk {
    this.#chunk.users++;
    return this.#chunk;
  }

  /** The piece has been sent, and nobody looks at its memory any more. */
  release(chunk: Chunk): void {
    if (--chunk.users === 0 && chunk !== this.#chunk) this.#spare(chunk);
  }

  #take(size: number): Chunk {
    const at = this.#spares.findIndex(({ bytes }) => bytes.length >= size && bytes.length <= size * 4);
    const [spare] = at < 0 ? [] : this.#spares.splice(at, 1);
    return spare ?? { bytes: this.#allocate(size), users: 0 };
  }

  #spare(chunk: Chunk): void {
    const size = chunk.bytes.length;
    if (size >= chunkBytes / 4 && size <= maxSpareBytes && this.#spares.length < maxSpares) this.#spares.push(chunk);
  }
}

/** For all that have no piece; nothing is added to it. */
const none: never[] = [];

/** The items that one stream has put into a sink, in as few pieces as they lie in. */
export class Pieces {
  readonly #sink: ByteSink;
  #closed: Uint8Array[] = none;
  #chunks: Chunk[] = none;
  /** The piece that may still grow: where it lies. */
  #bytes: Uint8Array | undefined;
  #begin = 0;
  #end = 0;
  #byteLength = 0;

  constructor(sink: ByteSink) {
    this.#sink = sink;
  }

  get byteLength(): number {
    return this.#byteLength;
  }

  /** Adds the item that the sink has just been given. */
  addItem(): void {
    const { bytes, begin, pos } = this.#sink;
    this.#byteLength += pos - begin;
    if (bytes !== this.#bytes || begin !== this.#end) {
      this.#close();
      const chunk = this.#sink.use();
      // Most writes are one piece, and `push` makes room for 17: with many streams that is most of what a write leaves.
      if (this.#chunks.length === 0) this.#chunks = [chunk];
      else this.#chunks.push(chunk);
      this.#bytes = bytes;
      this.#begin = begin;
    }
    this.#end = pos;
  }

  /** Adds bytes as they are. */
  add(bytes: Uint8Array): void {
    this.#close();
    this.#append(bytes);
    this.#byteLength += bytes.byteLength;
  }

  /** What has been added since the last time; `release` is to be called once it has been sent. */
  take(): { pieces: Uint8Array[]; release: () => void } {
    this.#close();
    const sink = this.#sink;
    const chunks = this.#chunks;
    let pieces = this.#closed;
    const length = this.#byteLength;
    this.#closed = none;
    this.#chunks = none;
    this.#byteLength = 0;
    let released = false;
    const release = (): void => {
      if (released) return;
      released = true;
      for (const chunk of chunks) sink.release(chunk);
    };
    if (pieces.length > maxPieces) {
      pieces = [join(pieces, length)];
      release();
    }
    return { pieces, release };
  }

  #close(): void {
    if (this.#bytes === undefined) return;
    this.#append(this.#bytes.subarray(this.#begin, this.#end));
    this.#bytes = undefined;
  }

  #append(piece: Uint8Array): void {
    if (this.#closed.length === 0) this.#closed = [piece];
    else this.#closed.push(piece);
  }
}

function join(pieces: readonly Uint8Array[], length: number): Uint8Array {
  const joined = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    joined.set(piece, at);
    at += piece.byteLength;
  }
  return joined;
}
