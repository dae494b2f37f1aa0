import type { FileHandle } from "node:fs/promises";
import { decodeEntry } from "./spool-format.ts";
import type { Decoded } from "./spool-format.ts";

const windowBytes = 1024 * 1024;

/** Reads entries of a spool file at any offset, through a window, because most are small. */
export class SpoolReader {
  readonly #file: FileHandle;
  #window: Buffer = Buffer.alloc(0);
  #windowAt = 0;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  /** The entry at the offset; "short" if the file ends within it. */
  async at(offset: number): Promise<Decoded> {
    const known = this.#decode(offset);
    if (known.kind !== "short") return known;
    await this.#fill(offset, windowBytes);
    const read = this.#decode(offset);
    if (read.kind !== "short" || read.needed <= windowBytes) return read;
    await this.#fill(offset, read.needed);
    return this.#decode(offset);
  }

  /** The file has begun anew. */
  forget(): void {
    this.#window = Buffer.alloc(0);
  }

  #decode(offset: number): Decoded {
    const from = offset - this.#windowAt;
    return decodeEntry(from < 0 || from > this.#window.length ? Buffer.alloc(0) : this.#window.subarray(from));
  }

  /** A new buffer each time: lines that are on their way are views of the one before. */
  async #fill(offset: number, size: number): Promise<void> {
    const buffer = Buffer.allocUnsafeSlow(size);
    let length = 0;
    for (let read = -1; read !== 0 && length < size; length += read) {
      read = (await this.#file.read(buffer, length, size - length, offset + length)).bytesRead;
    }
    this.#window = buffer.subarray(0, length);
    this.#windowAt = offset;
  }
}
