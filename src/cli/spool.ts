import { createHash, randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { open, realpath } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { describeOpenMode, privateModes } from "../file-modes.ts";
import { Change } from "./backlog.ts";
import type { Backlog, BatchLimits } from "./backlog.ts";
import { lockDirectory, LockedError } from "./directory-lock.ts";
import { CliError, fileError, lacksSpace } from "./failure.ts";
import { batches } from "./lines.ts";
import { beginSpool, readSpool } from "./spool-file.ts";
import type { SpoolContent } from "./spool-file.ts";
import { encodeEntry } from "./spool-format.ts";
import type { SpoolEntry } from "./spool-format.ts";
import { SpoolReader } from "./spool-reader.ts";
import { writeAll } from "./write-all.ts";

export interface SpoolOptions {
  readonly path: string;
  readonly stream: string;
  /** Size of the file, in bytes, beyond which `add` waits until all lines in it are stored. */
  readonly maxBytes: number;
  readonly limits: BatchLimits;
  readonly signal: AbortSignal;
  /** Told what is wrong with the file, and what has become of it. */
  readonly onNote: (message: string) => void;
}

/** Size from which a file is begun anew once everything in it is stored, in bytes. */
const tidyBytes = 1024 * 1024;

/**
 * A backlog in a file: each line is in it from before it is sent until it is stored, so that a process that ends in an
 * outage loses none. Batches keep their boundaries and their producer's numbers across processes, so that the server
 * recognises those that it has.
 */
export class Spool implements Backlog {
  readonly #options: SpoolOptions;
  readonly #file: FileHandle;
  readonly #reader: SpoolReader;
  readonly #release: () => Promise<void>;
  readonly #change = new Change();
  #producerId: string;
  #baseSeq: number;
  #stored: number;
  #waiting: number;
  #end: number;
  /** What is on the disk up to here: no batch is sent before it is, or a later process would give its number to another. */
  #syncedTo = 0;
  /** Nobody waits for room any more. */
  #hurried = false;
  /** Where the next batch to take begins, or an entry before it; and how many batches there are to take. */
  #readAt: number;
  #untaken: number;
  /** Batches that are on their way. */
  readonly #taken: { readonly offset: number; readonly lines: number }[] = [];
  #ended = false;
  /** The last of the writes, which come one after the other. */
  #lastWrite: Promise<unknown> = Promise.resolve();

  /** Opens the file, or makes it with mode 0600. One process at a time has it. */
  static async open(options: SpoolOptions): Promise<Spool> {
    const { path, signal } = options;
    try {
      // Made first: where a link leads can be told once there is a file.
      await (await open(path, constants.O_RDWR | constants.O_CREAT, privateModes.file)).close();
      const target = await realpath(path);
      const release = await lockDirectory(dirname(target), signal, lockName(basename(target)));
      try {
        const file = await open(target, constants.O_RDWR);
        try {
          const openMode = describeOpenMode(target, privateModes.file);
          if (openMode !== undefined) options.onNote(openMode);
          const reader = new SpoolReader(file);
          return new Spool(options, file, reader, release, await readSpool(file, reader, options));
        } catch (error) {
          await file.close();
          throw error;
        }
      } catch (error) {
        await release();
        throw error;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof LockedError) throw new CliError("conflict", `another push uses the spool file ${path}`);
      throw error instanceof CliError ? error : fileError(path, "written", error);
    }
  }

  private constructor(
    options: SpoolOptions,
    file: FileHandle,
    reader: SpoolReader,
    release: () => Promise<void>,
    content: SpoolContent,
  ) {
    this.#options = options;
    this.#file = file;
    this.#reader = reader;
    this.#release = release;
    this.#producerId = content.producerId;
    this.#baseSeq = content.baseSeq;
    this.#stored = content.stored;
    this.#waiting = content.lines;
    this.#untaken = content.batches;
    this.#readAt = content.readAt;
    this.#end = content.end;
  }

  get waiting(): number {
    return this.#waiting;
  }

  get producer(): { readonly id: string; readonly firstSeq: number } {
    return { id: this.#producerId, firstSeq: this.#baseSeq + this.#stored };
  }

  async add(lines: readonly Uint8Array[], signal: AbortSignal): Promise<void> {
    for (const batch of batches(lines, this.#options.limits)) {
      // With nothing that waits there is room after another look.
      while (!(await this.#addBatch(batch))) if (this.#waiting > 0) await this.#change.next(signal);
    }
    while (!this.#hurried && this.#end > this.#options.maxBytes && this.#waiting > 0) await this.#change.next(signal);
  }

  hurry(): void {
    this.#hurried = true;
    this.#change.happened();
  }

  end(): void {
    this.#ended = true;
    this.#change.happened();
  }

  async take(signal: AbortSignal): Promise<readonly Uint8Array[] | undefined> {
    while (this.#untaken === 0) {
      if (this.#ended) return undefined;
      await this.#change.next(signal);
    }
    for (;;) {
      const next = await this.#reader.at(this.#readAt);
      if (next.kind !== "entry") {
        throw new CliError("failure", `the spool file ${this.#options.path} was changed by another program`);
      }
      const offset = this.#readAt;
      this.#readAt += next.size;
      if (next.entry.kind !== "lines") continue;
      if (this.#readAt > this.#syncedTo) await this.#sync();
      this.#untaken--;
      this.#taken.push({ offset, lines: next.entry.lines.length });
      return next.entry.lines;
    }
  }

  async acked(): Promise<void> {
    this.#waiting -= this.#taken.shift()?.lines ?? 0;
    this.#stored++;
    await this.#write(async () => {
      if (this.#waiting === 0 && this.#end >= tidyBytes) await this.#beginAnew();
      // Without it a later process sends the batch again, and the server recognises it.
      else await this.#put({ kind: "acked", batches: this.#stored }).catch(() => undefined);
    });
    this.#change.happened();
  }

  async renew(): Promise<void> {
    this.#readAt = this.#taken[0]?.offset ?? this.#readAt;
    this.#untaken += this.#taken.splice(0).length;
    this.#producerId = randomUUID();
    this.#baseSeq = -this.#stored;
    await this.#write(() => this.#put({ kind: "producer", producerId: this.#producerId }));
  }

  async close(): Promise<void> {
    await this.#lastWrite.catch(() => undefined);
    await this.#file.close();
    await this.#release();
  }

  /** False if there is no room on the disk, and may be later. */
  async #addBatch(lines: readonly Uint8Array[]): Promise<boolean> {
    const entry = { kind: "lines", lines } as const;
    const added = await this.#write(async () => {
      try {
        await this.#put(entry);
      } catch (error) {
        if (!lacksSpace(error)) throw error;
        if (this.#waiting > 0) return false;
        // All that is in the file gives its room back.
        await this.#beginAnew();
        await this.#put(entry);
      }
      // At once: the next write may begin the file anew if nothing waits in it.
      this.#waiting += lines.length;
      this.#untaken++;
      return true;
    }).catch((error: unknown) => {
      throw fileError(this.#options.path, "written", error);
    });
    if (added) this.#change.happened();
    return added;
  }

  async #put(entry: SpoolEntry): Promise<void> {
    const bytes = encodeEntry(entry);
    try {
      await writeAll(this.#file, bytes, this.#end);
    } catch (error) {
      // A part of an entry would look like damage.
      await this.#file.truncate(this.#end).catch(() => undefined);
      throw error;
    }
    this.#end += bytes.length;
  }

  async #sync(): Promise<void> {
    await this.#write(async () => {
      const end = this.#end;
      await this.#file.datasync();
      this.#syncedTo = end;
    });
  }

  async #beginAnew(): Promise<void> {
    const { id, firstSeq } = this.producer;
    const { baseSeq, stored, readAt, end } = await beginSpool(this.#file, this.#options.stream, id, firstSeq);
    this.#baseSeq = baseSeq;
    this.#stored = stored;
    this.#readAt = readAt;
    this.#end = end;
    this.#reader.forget();
    await this.#file.datasync();
    this.#syncedTo = end;
  }

  #write<T>(work: () => Promise<T>): Promise<T> {
    const write = this.#lastWrite.then(work, work);
    this.#lastWrite = write;
    write.catch(() => undefined);
    return write;
  }
}

/** Sockets are in the file's directory, and have names of bounded length. */
function lockName(name: string): string {
  return `.sluice-spool-${createHash("sha256").update(name).digest("hex").slice(0, 16)}`;
}
