import { constants } from "node:fs";
import { open, readFile, rename, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { CliError, fileError } from "./failure.ts";
import { openPartDirectory } from "./part-directory.ts";
import type { PartDirectory } from "./part-directory.ts";
import { digestOfFile } from "./part-digest.ts";
import { RecordLengths } from "./record-lengths.ts";
import { findTarget, replaceTarget } from "./target-file.ts";
import { writeAll } from "./write-all.ts";

/** How far a pull has come: everything before `seq` stands in the part file, before `offset`. */
interface Mark {
  /** What is pulled, and how; another value starts afresh. */
  readonly source: string;
  readonly seq: number;
  readonly offset: number;
}

export interface PartFileOptions {
  /** The file that is to be written. */
  readonly output: string;
  /** What is pulled: a part of another source is not resumed. */
  readonly source: string;
  readonly firstSeq: number;
  /** Stands after each record, and is covered by no checksum. */
  readonly separator: Uint8Array;
  readonly signal: AbortSignal;
}

/** How often the mark is written, in bytes. An interrupted pull repeats this much at most. */
const markEveryBytes = 8 * 1024 * 1024;
/** Nobody but this process changes what is in the directory; a link in it would still not be followed. */
const openFlags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;

/**
 * The unfinished copy of a stream, in a directory beside the target that one pull at a time uses, with the mark from
 * which a later pull goes on. The target changes when the copy is whole.
 */
export class PartFile {
  readonly #options: PartFileOptions;
  readonly #target: string;
  readonly #directory: PartDirectory;
  readonly #file: FileHandle;
  /** Undefined without a separator: then the file has nothing but data. */
  readonly #lengths: RecordLengths | undefined;
  #seq: number;
  #offset: number;
  #markedAt: number;
  /** Whether there is something for a later pull, or for somebody to look at. */
  #keeps = true;

  /** Goes on from an earlier pull of the same source, or begins at `firstSeq`. */
  static async open(options: PartFileOptions): Promise<PartFile> {
    const { output, firstSeq, separator, signal } = options;
    const target = await findTarget(output);
    const directory = await openPartDirectory(target, signal).catch((error: unknown) => {
      throw error instanceof CliError ? error : fileError(output, "written", error);
    });
    const opened: FileHandle[] = [];
    try {
      const openIn = async (name: string): Promise<FileHandle> => {
        const file = await open(join(directory.path, name), openFlags, 0o666);
        opened.push(file);
        return file;
      };
      const data = await openIn("data");
      const lengths = separator.byteLength === 0 ? undefined : await openIn("lengths");
      const begin: Mark = { source: options.source, seq: firstSeq, offset: 0 };
      const mark = (await readMark(directory, options.source)) ?? begin;
      const whole =
        (await data.stat()).size >= mark.offset &&
        (lengths === undefined || (await RecordLengths.has(lengths, mark.seq - firstSeq)));
      return new PartFile(options, target, directory, data, lengths, whole ? mark : begin);
    } catch (error) {
      await Promise.all(opened.map((file) => file.close()));
      await directory.release();
      throw fileError(output, "written", error);
    }
  }

  private constructor(
    options: PartFileOptions,
    target: string,
    directory: PartDirectory,
    file: FileHandle,
    lengths: FileHandle | undefined,
    { seq, offset }: Mark,
  ) {
    this.#options = options;
    this.#target = target;
    this.#directory = directory;
    this.#file = file;
    this.#lengths = lengths && new RecordLengths(lengths, seq - options.firstSeq);
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
  /** Where the copy is until it is finished. */
  get path(): string {
    return join(this.#directory.path, "data");
  }

  async add(seq: number, data: Uint8Array): Promise<void> {
    const { separator } = this.#options;
    const bytes = separator.byteLength === 0 ? data : Buffer.concat([data, separator]);
    try {
      await writeAll(this.#file, bytes, this.#offset);
      this.#lengths?.add(data.byteLength);
      this.#seq = seq + 1;
      this.#offset += bytes.byteLength;
      if (this.#offset - this.#markedAt >= markEveryBytes) await this.mark();
    } catch (error) {
      throw fileError(this.#options.output, "written", error);
    }
  }

  /** Remembers how far the copy has come; the data is on the disk before the mark is. */
  async mark(): Promise<void> {
    await this.#file.datasync();
    await this.#lengths?.flush();
    const mark: Mark = { source: this.#options.source, seq: this.#seq, offset: this.#offset };
    const [path, draftPath] = [markPath(this.#directory), `${markPath(this.#directory)}.tmp`];
    const draft = await open(draftPath, openFlags | constants.O_TRUNC, 0o600);
    try {
      await draft.writeFile(`${JSON.stringify(mark)}\n`);
      await draft.datasync();
    } finally {
      await draft.close();
    }
    await rename(draftPath, path);
    this.#markedAt = this.#offset;
  }

  /** SHA-256 of the data, without separators, as it stands in the file. */
  async digest(): Promise<Buffer> {
    return this.#digestOf(this.#file);
  }

  /** Puts the whole copy in the target's place. `digest` is what was checked. */
  async finish(digest: Buffer): Promise<void> {
    const { output } = this.#options;
    try {
      await this.#file.truncate(this.#offset);
      const written = await replaceTarget(this.#file, this.path, this.#target);
      if (written !== this.#file) {
        const same = (await this.#digestOf(written).finally(() => written.close())).equals(digest);
        if (!same)
          throw new CliError("mismatch", `${output} does not hold what was written to it: look at ${this.path}`);
      }
      this.#keeps = false;
    } catch (error) {
      throw error instanceof CliError ? error : fileError(output, "written", error);
    }
  }

  /** Leaves the copy for somebody to look at, but never goes on from it. */
  async forget(): Promise<void> {
    await rm(markPath(this.#directory), { force: true });
  }

  async close(): Promise<void> {
    await this.#file.close();
    await this.#lengths?.close();
    await (this.#keeps && this.#offset > 0 ? this.#directory.release() : this.#directory.remove());
  }

  async #digestOf(file: FileHandle): Promise<Buffer> {
    const { output, separator, signal } = this.#options;
    const layout = this.#lengths && { lengths: this.#lengths.read(), separatorBytes: separator.byteLength };
    try {
      return await digestOfFile(file, this.#offset, layout, signal);
    } catch (error) {
      signal.throwIfAborted();
      throw fileError(output, "read", error);
    }
  }
}

function markPath({ path }: PartDirectory): string {
  return join(path, "mark.json");
}

async function readMark(directory: PartDirectory, source: string): Promise<Mark | undefined> {
  try {
    const mark = JSON.parse(await readFile(markPath(directory), "utf8")) as Partial<Mark>;
    const whole = [mark.seq, mark.offset].every((n) => Number.isSafeInteger(n) && (n ?? -1) >= 0);
    return whole && mark.source === source ? (mark as Mark) : undefined;
  } catch {
    // There is none, or it is not ours: begin at the beginning.
    return undefined;
  }
}
