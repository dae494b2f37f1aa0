import { createHash } from "node:crypto";
import type { Hash } from "node:crypto";
import { constants } from "node:fs";
import type { BigIntStats } from "node:fs";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { basename } from "node:path";
import { CliError, fileError } from "./failure.ts";
import { snapshotOf } from "./snapshot.ts";

/** The headers of a pushed file's first record: they say which file it is, and how it was cut. */
export interface FileHeaders extends Record<string, string> {
  readonly "file-name": string;
  readonly "file-size": string;
  /** Nanoseconds since the Unix epoch. */
  readonly "file-mtime-ns": string;
  readonly "chunk-bytes": string;
}

/** A regular file, opened once: what is pushed is what it was then, or the push fails. */
export interface LocalFile {
  readonly path: string;
  readonly handle: FileHandle;
  readonly stats: BigIntStats;
}

/** Opens the file, or a copy of one that does not know its size. The caller closes its handle. */
export async function openLocalFile(path: string, signal: AbortSignal): Promise<LocalFile> {
  let handle: FileHandle;
  try {
    // A named pipe without a writer would be waited for, in a thread that nothing can interrupt.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw fileError(path, "read", error);
  }
  const stats = await handle.stat({ bigint: true });
  if (!stats.isFile()) {
    await handle.close();
    if (stats.isDirectory())
      throw new CliError("usage", `${path} is a directory: give a file, such as an archive of it`);
    throw new CliError(
      "usage",
      `${path} is not a regular file: to append lines as they arrive, pipe it into \`push STREAM -\``,
    );
  }
  try {
    const snapshot = await snapshotOf(handle, stats, signal);
    if (snapshot === undefined) return { path, handle, stats };
    await handle.close();
    return { path, handle: snapshot, stats: await snapshot.stat({ bigint: true }) };
  } catch (error) {
    await handle.close();
    signal.throwIfAborted();
    throw fileError(path, "read", error);
  }
}

/**
 * A local file as numbered chunks. Record n of its stream is chunk n, so that
 * the tail of the stream says where to go on. An empty file is one empty chunk.
 *
 * The SHA-256 is computed as the chunks pass, each byte once, however often
 * chunks are read again.
 */
export class FileSource {
  readonly size: number;
  readonly headers: FileHeaders;
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #chunkBytes: number;
  readonly #stats: BigIntStats;
  readonly #hash: Hash = createHash("sha256");
  #hashedTo = 0;

  constructor({ path, handle, stats }: LocalFile, chunkBytes: number) {
    this.#path = path;
    this.#file = handle;
    this.#stats = stats;
    this.#chunkBytes = chunkBytes;
    this.size = Number(stats.size);
    this.headers = {
      "file-name": basename(path),
      "file-size": String(stats.size),
      "file-mtime-ns": String(stats.mtimeNs),
      "chunk-bytes": String(chunkBytes),
    };
  }

  get chunkCount(): number {
    return Math.max(1, Math.ceil(this.size / this.#chunkBytes));
  }

  /** Where chunk `index` begins, in bytes. */
  offsetOf(index: number): number {
    return Math.min(this.size, index * this.#chunkBytes);
  }

  /** The chunks from `first` on. What lies before them is read for the checksum. */
  async *chunks(first: number, signal: AbortSignal): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
    await this.#hashTo(this.offsetOf(first), signal);
    for (let index = first; index < this.chunkCount; index++) {
      signal.throwIfAborted();
      const offset = this.offsetOf(index);
      const chunk = await this.#read(offset, this.offsetOf(index + 1) - offset);
      this.#add(offset, chunk);
      yield chunk;
    }
  }

  /** The checksum of the whole file. Fails if the file has changed since it was opened. */
  async sha256(signal: AbortSignal, onProgress?: (hashedBytes: number) => void): Promise<Uint8Array<ArrayBuffer>> {
    await this.#hashTo(this.size, signal, onProgress);
    const { size, mtimeNs } = await this.#file.stat({ bigint: true });
    if (size !== this.#stats.size || mtimeNs !== this.#stats.mtimeNs) throw this.#changed();
    return new Uint8Array(this.#hash.copy().digest());
  }

  async #hashTo(end: number, signal: AbortSignal, onProgress?: (hashedBytes: number) => void): Promise<void> {
    while (this.#hashedTo < end) {
      signal.throwIfAborted();
      const offset = this.#hashedTo;
      this.#add(offset, await this.#read(offset, Math.min(this.#chunkBytes, end - offset)));
      onProgress?.(this.#hashedTo);
    }
  }

  #add(offset: number, chunk: Uint8Array): void {
    if (offset + chunk.byteLength <= this.#hashedTo) return;
    this.#hash.update(chunk.subarray(this.#hashedTo - offset));
    this.#hashedTo = offset + chunk.byteLength;
  }

  async #read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    // A buffer of its own: the chunk before may still be on its way to the socket.
    const chunk = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const { bytesRead } = await this.#file.read(chunk, done, length - done, offset + done).catch((error: unknown) => {
        throw fileError(this.#path, "read", error);
      });
      if (bytesRead === 0) throw this.#changed();
      done += bytesRead;
    }
    return chunk;
  }

  #changed(): CliError {
    return new CliError(
      "mismatch",
      `${this.#path} was changed while it was pushed: the stream was not sealed. Delete the stream, or push to another one`,
    );
  }
}
