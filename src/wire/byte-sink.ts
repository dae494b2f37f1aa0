/** How much is allocated at a time, in bytes. */
const chunkBytes = 64 * 1024;

/** Pieces that do not lie side by side are copied together beyond this number, because writing each has its price. */
const maxPieces = 16;

/**
 * Memory to encode into. The streams of a server share one: each writes items,
 * and takes them as pieces to send, while the next goes on where the last has
 * stopped. No byte is handed out twice, so that pieces stay as they are.
 */
export class ByteSink {
  /** What encoders write to, from `pos` on, within what `reserve` has promised. */
  bytes = new Uint8Array(0);
  pos = 0;
  readonly #allocate: (size: number) => Uint8Array<ArrayBuffer>;
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
    this.#begin = this.pos;
  }

  /** Takes back what has been written of the item, except its first `keep` bytes. */
  rewind(keep = 0): void {
    this.pos = this.#begin + keep;
  }

  /** Makes sure that `size` bytes can be written at `pos`. May move the item. */
  reserve(size: number): void {
    if (this.pos + size <= this.bytes.length) return;
    const written = this.pos - this.#begin;
    const needed = written + size;
    // What is large gets memory of its own. What grows doubles, so that it is not copied again for each of its fields.
    const grown = needed > chunkBytes / 4 ? needed + Math.max(written, 64) : chunkBytes;
    const chunk = this.#allocate(grown);
    if (written > 0) chunk.set(this.bytes.subarray(this.#begin, this.pos));
    this.bytes = chunk;
    this.#view = undefined;
    this.#begin = 0;
    this.pos = written;
  }
}

/** The items that one stream has put into a sink, in as few pieces as they lie in. */
export class Pieces {
  #closed: Uint8Array[] = [];
  /** The piece that may still grow: where it lies. */
  #bytes: Uint8Array | undefined;
  #begin = 0;
  #end = 0;
  #byteLength = 0;

  get byteLength(): number {
    return this.#byteLength;
  }

  /** Adds the item that the sink has just been given. */
  addItem(sink: ByteSink): void {
    const { bytes, begin, pos } = sink;
    this.#byteLength += pos - begin;
    if (bytes !== this.#bytes || begin !== this.#end) {
      this.#close();
      this.#bytes = bytes;
      this.#begin = begin;
    }
    this.#end = pos;
  }

  /** Adds bytes as they are. */
  add(bytes: Uint8Array): void {
    this.#close();
    this.#closed.push(bytes);
    this.#byteLength += bytes.byteLength;
  }

  take(): Uint8Array[] {
    this.#close();
    const pieces = this.#closed;
    const length = this.#byteLength;
    this.#closed = [];
    this.#byteLength = 0;
    return pieces.length > maxPieces ? [join(pieces, length)] : pieces;
  }

  #close(): void {
    if (this.#bytes === undefined) return;
    this.#closed.push(this.#bytes.subarray(this.#begin, this.#end));
    this.#bytes = undefined;
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
