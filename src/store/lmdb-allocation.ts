import { randomUUID } from "node:crypto";
import { closeSync, fdatasyncSync, fstatSync, linkSync, openSync, rmSync, statSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { toError } from "../async/to-error.ts";
import { privateModes } from "../file-modes.ts";

/** Written at once: zeros. */
const chunk = Buffer.alloc(1024 * 1024);
/** The unit of `Stats.blocks`, in bytes (stat(2)). */
const statBlock = 512;
/** The reader table of LMDB for its 126 readers, rounded up to whole pages, in bytes. */
const lockBytes = 12 * 1024;

/**
 * A file whose end is allocated on the disk ahead of what is stored in it, by writing zeros.
 *
 * It grows by writes that append, and so overwrites nothing, whoever else writes to it. `exclusively` runs what must not
 * overlap with another writer, with the bytes in use, or does nothing if there is another one.
 */
export class AllocatedFile {
  readonly #path: string;
  readonly #exclusively: (write: (used: number) => void) => void;
  #end: number;
  /** Whether zeros behind `#end` could not be flushed. */
  #unconfirmed = false;

  /** `used`: what is behind it in the file, in bytes, is zeros or of no use. */
  constructor(path: string, used: number, exclusively: (write: (used: number) => void) => void) {
    this.#path = path;
    this.#exclusively = exclusively;
    const { size, blocks } = statSync(path);
    this.#end = size;
    // A copy of the file may have holes where it was zeros.
    if (blocks * statBlock < size) this.#fill(used);
  }

  /** The file is allocated up to here, in bytes. */
  get end(): number {
    return this.#end;
  }

  /** Appends so many bytes, and flushes them. What could be allocated before a failure counts. */
  async extend(bytes: number): Promise<void> {
    if (this.#unconfirmed) this.#fill(this.#end);
    const file = await open(this.#path, "a");
    try {
      let failure: unknown;
      try {
        for (let left = bytes; left > 0;) {
          left -= (await file.write(chunk, 0, Math.min(left, chunk.length))).bytesWritten;
        }
      } catch (error) {
        failure = error;
      }
      this.#unconfirmed = true;
      await file.datasync();
      this.#unconfirmed = false;
      this.#end = (await file.stat()).size;
      if (failure !== undefined) throw toError(failure);
    } finally {
      await file.close();
    }
  }

  /** Writes zeros over what is behind `from`; where that fails the allocated part ends. */
  #fill(from: number): void {
    this.#end = Math.min(this.#end, from);
    this.#exclusively((used) => {
      const file = openSync(this.#path, "r+");
      try {
        const { size } = fstatSync(file);
        // Never over what LMDB has in use.
        let at = Math.max(from, used);
        while (at < size) at += writeSync(file, chunk, 0, Math.min(size - at, chunk.length), at);
        fdatasyncSync(file);
        this.#end = size;
        this.#unconfirmed = false;
      } catch {
        // The next extension tries it anew, and tells the reason.
        this.#unconfirmed = true;
      } finally {
        closeSync(file);
      }
    });
  }
}

/** Makes sure that the file has so many bytes behind `used`, before its owner is known. */
export function extendSync(path: string, used: number, bytes: number): void {
  const file = openSync(path, "a");
  try {
    const missing = used + bytes - fstatSync(file).size;
    if (missing <= 0) return;
    writeZeros(file, missing);
  } finally {
    closeSync(file);
  }
}

/**
 * Makes `lock.mdb`, if it does not exist, with all its blocks: LMDB maps it and writes to the memory, which on a full disk
 * would end the process with SIGBUS. An existing one is in use, or has its blocks.
 */
export function allocateLockFile(dir: string): void {
  const path = join(dir, "lock.mdb");
  // Processes in different containers may have the same id.
  const made = join(dir, `lock.${randomUUID()}.new`);
  let file: number;
  try {
    if (statSync(path, { throwIfNoEntry: false }) !== undefined) return;
    file = openSync(made, "wx", privateModes.file);
    try {
      writeZeros(file, lockBytes);
    } finally {
      closeSync(file);
    }
    linkSync(made, path);
  } catch (error) {
    // Another process has made it, or the file system has no links.
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "EEXIST" && code !== "EPERM" && code !== "ENOTSUP" && code !== "EOPNOTSUPP") throw error;
  } finally {
    rmSync(made, { force: true });
  }
}

function writeZeros(file: number, bytes: number): void {
  for (let left = bytes; left > 0;) left -= writeSync(file, chunk, 0, Math.min(left, chunk.length));
  fdatasyncSync(file);
}
