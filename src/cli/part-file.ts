import { createHash } from "node:crypto";
import type { Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, readFile, rename, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { fileError } from "./failure.ts";

/** How far a pull has come: everything before `seq` stands in the part file, before `offset`. */
interface Mark {
  /** What is pulled, and how; another value starts afresh. */
  readonly source: string;
  readonly seq: number;
  readonly offset: number;
}

/** How often the mark is written, in bytes. An interrupted pull repeats this much at most. */
const markEveryBytes = 8 * 1024 * 1024;

/**
 * The unfinished copy of a stream: `FILE.part`, and next to it `FILE.part.json`
 * with the mark from which a later pull goes on. `FILE` appears when it is whole.
 */
export class PartFile {
  readonly #target: string;
  readonly #source: string;
  readonly #file: FileHandle;
  readonly #hash: Hash;
  #seq: number;
  #offset: number;
  #markedAt: number;

  /** Goes on from an earlier pull of the same source, or begins at `firstSeq`. */
  static async open(target: string, source: string, firstSeq: number): Promise<PartFile> {
    const mark = await readMark(`${target}.part.json`, source);
    try {
      if (mark !== undefined) {
        const resumed = await PartFile.#resume(target, mark);
        if (resumed !== undefined) return resumed;
      }
      const file = await open(`${target}.part`, "w");
      return new PartFile(target, file, { source, seq: firstSeq, offset: 0 }, createHash("sha256"));
    } catch (error) {
      throw fileError(`${target}.part`, "written", error);
    }
  }

  static async #resume(target: string, mark: Mark): Promise<PartFile | undefined> {
    const file = await open(`${target}.part`, "r+").catch(() => undefined);
    if (file === undefined) return undefined;
    if ((await file.stat()).size < mark.offset) {
      await file.close();
      return undefined;
    }
    const hash = createHash("sha256");
    if (mark.offset > 0) {
      for await (const chunk of createReadStream(`${target}.part`, { end: mark.offset - 1 }))
        hash.update(chunk as Buffer);
    }
    return new PartFile(target, file, mark, hash);
  }

  private constructor(target: string, file: FileHandle, { source, seq, offset }: Mark, hash: Hash) {
    this.#target = target;
    this.#source = source;
    this.#file = file;
    this.#hash = hash;
    this.#seq = seq;
    this.#offset = offset;
    this.#markedAt = offset;
  }

  /** The seq to go on with. */
  get seq(): number {
    return this.#seq;
  }
  get offset(): number {
    return this.#offset;
  }

  /** Adds one record: its data, and a separator that no checksum covers. */
  async add(seq: number, data: Uint8Array, separator: Uint8Array): Promise<void> {
    this.#hash.update(data);
    try {
      await writeAll(this.#file, data, this.#offset);
      if (separator.byteLength > 0) await writeAll(this.#file, separator, this.#offset + data.byteLength);
      this.#seq = seq + 1;
      this.#offset += data.byteLength + separator.byteLength;
      if (this.#offset - this.#markedAt >= markEveryBytes) await this.mark();
    } catch (error) {
      throw fileError(`${this.#target}.part`, "written", error);
    }
  }

  /** Remembers how far the copy has come; the data is on the disk before the mark is. */
  async mark(): Promise<void> {
    await this.#file.datasync();
    const mark: Mark = { source: this.#source, seq: this.#seq, offset: this.#offset };
    const draft = await open(`${this.#target}.part.json.tmp`, "w");
    try {
      await draft.writeFile(`${JSON.stringify(mark)}\n`);
      await draft.datasync();
    } finally {
      await draft.close();
    }
    await rename(`${this.#target}.part.json.tmp`, `${this.#target}.part.json`);
    this.#markedAt = this.#offset;
  }

  /** SHA-256 of the data so far. */
  digest(): Buffer {
    return this.#hash.copy().digest();
  }

  /** Gives the whole copy its name. */
  async finish(): Promise<void> {
    try {
      await this.#file.truncate(this.#offset);
      await this.#file.sync();
      await rename(`${this.#target}.part`, this.#target);
      await rm(`${this.#target}.part.json`, { force: true });
    } catch (error) {
      throw fileError(this.#target, "written", error);
    }
  }

  /** Leaves the part file for somebody to look at, but never goes on from it. */
  async forget(): Promise<void> {
    await rm(`${this.#target}.part.json`, { force: true });
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

async function readMark(path: string, source: string): Promise<Mark | undefined> {
  try {
    const mark = JSON.parse(await readFile(path, "utf8")) as Partial<Mark>;
    const whole = [mark.seq, mark.offset].every((n) => Number.isSafeInteger(n) && (n ?? -1) >= 0);
    return whole && mark.source === source ? (mark as Mark) : undefined;
  } catch {
    // There is none, or it is not ours: begin at the beginning.
    return undefined;
  }
}

async function writeAll(file: FileHandle, data: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < data.byteLength;) {
    const { bytesWritten } = await file.write(data, done, data.byteLength - done, offset + done);
    done += bytesWritten;
  }
}
