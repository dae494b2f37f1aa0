/** The first allocation for a body that comes in parts, in bytes. */
const firstBytes = 4096;

/** Joins the chunks of a body. A list of them would cost many times their bytes if they are small. */
export class BodyCollector {
  readonly #allocate: (size: number) => Uint8Array<ArrayBuffer>;
  readonly #expected: number;
  #memory: Uint8Array<ArrayBuffer> | undefined;
  #length = 0;

  /** `allocate` may give memory that has not been cleared. `expected` bytes need no memory for more. */
  constructor(allocate: (size: number) => Uint8Array<ArrayBuffer>, expected = Infinity) {
    this.#allocate = allocate;
    this.#expected = expected;
  }

  /** Bytes that have been added. */
  get length(): number {
    return this.#length;
  }

  /** Bytes of memory that hold them. */
  get allocatedBytes(): number {
    return this.#memory?.byteLength ?? 0;
  }

  add(chunk: Uint8Array): void {
    const length = this.#length + chunk.byteLength;
    if (this.#memory === undefined || this.#memory.byteLength < length) {
      const grown = this.#allocate(Math.max(length, Math.min(this.#expected, Math.max(firstBytes, length * 2))));
      if (this.#memory !== undefined) grown.set(this.#memory.subarray(0, this.#length));
      this.#memory = grown;
    }
    this.#memory.set(chunk, this.#length);
    this.#length = length;
  }

  get bytes(): Uint8Array {
    return this.#memory?.subarray(0, this.#length) ?? new Uint8Array(0);
  }
}
