import type { FileHandle } from "node:fs/promises";
import { writeAll } from "./write-all.ts";

/** Size of one length: an unsigned 32-bit integer, little-endian. No record is larger. */
const lengthBytes = 4;
const readCount = 16 * 1024;

/**
 * The lengths of the records in a part file with separators: what separates records may also stand in their data, and
 * no checksum covers it. They are in a file of their own, because there may be many.
 */
export class RecordLengths {
  readonly #file: FileHandle;
  #stored: number;
  #waiting: number[] = [];

  /** `count`: how many lengths of an earlier pull hold. */
  constructor(file: FileHandle, count: number) {
    this.#file = file;
    this.#stored = count;
  }

  /** Whether the file has as many. */
  static async has(file: FileHandle, count: number): Promise<boolean> {
    return (await file.stat()).size >= count * lengthBytes;
  }

  add(length: number): void {
    this.#waiting.push(length);
  }

  /** Writes what was added. */
  async flush(): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    const bytes = Buffer.alloc(waiting.length * lengthBytes);
    waiting.forEach((length, i) => bytes.writeUInt32LE(length, i * lengthBytes));
    await writeAll(this.#file, bytes, this.#stored * lengthBytes);
    this.#stored += waiting.length;
    await this.#file.datasync();
  }

  async *read(): AsyncGenerator<number, void, undefined> {
    await this.flush();
    const bytes = Buffer.alloc(readCount * lengthBytes);
    for (let at = 0; at < this.#stored; at += readCount) {
      const count = Math.min(readCount, this.#stored - at);
      await this.#file.read(bytes, 0, count * lengthBytes, at * lengthBytes);
      for (let i = 0; i < count; i++) yield bytes.readUInt32LE(i * lengthBytes);
    }
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
