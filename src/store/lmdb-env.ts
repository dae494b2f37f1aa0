import { open } from "lmdb";
import type { Database, RootDatabase } from "lmdb";
import { closeSync, existsSync, mkdirSync, openSync, readSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { DomainError } from "../errors.ts";
import { describeOpenMode, privateModes } from "../file-modes.ts";
import { lacksSpace } from "./disk-space.ts";
import type { Noticed } from "./age.ts";
import { allocateLockFile, extendSync } from "./lmdb-allocation.ts";
import { statsOf } from "./lmdb-page-bound.ts";
import type { StreamInfo } from "./store.ts";

/** A stream as it is stored. */
export interface StreamRow {
  /** Part of every key of its records, so that a stream made later under the same name sees none of them. */
  readonly id: number;
  /** The first seq of the newest batch. */
  readonly newest: number;
  /** The highest epoch that was claimed of any of its producers; absent: none. */
  readonly claims?: number;
  /** What its batches count, as `lmdb-costs.ts` has it. */
  readonly stored: number;
  /** Absent: no sweep has found records from the future in it. */
  readonly noticed?: Noticed;
  readonly info: StreamInfo;
}

/** A producer of a stream as it is stored. */
export interface ProducerRow {
  readonly epoch: number;
  readonly nextProducerSeq: number;
  readonly firstSeq: number;
  readonly lastTimeMs: number;
}

/** The tables. Keys order by name, and by number within a stream. */
export interface Tables {
  readonly root: RootDatabase;
  /**
   * "format", "nextId", "owner", "bytes" (what everything counts, as `lmdb-costs.ts` has it), and "lost/" with the nonce of
   * each owner that was replaced.
   */
  readonly meta: Database<unknown, string>;
  readonly streams: Database<StreamRow, string>;
  /** Names of the streams that have a retention. */
  readonly retained: Database<true, string>;
  /** [stream id, first seq] -> a batch, as `lmdb-codec.ts` writes it. */
  readonly batches: Database<Buffer, [number, number]>;
  /** [stream id, producer id]. */
  readonly producers: Database<ProducerRow, [number, string]>;
  /** [stream id, producer id, producer_seq] -> [first seq, next seq, digest]; older versions stored no digest. */
  readonly positions: Database<[number, number, string?], [number, string, number]>;
  /** Ids of deleted streams whose records are still there. */
  readonly garbage: Database<true, number>;
}

/** What `lmdb-format.ts` makes of the older ones. */
export const format = 4;
const readable: readonly unknown[] = [1, 2, 3, format];
/** LMDB's own magic number and data version, in its meta pages (mdb.c, MDB_MAGIC and MDB_DATA_VERSION). */
const magic = 0xbeefc0de;
/** Where a meta page has the magic number, the page size and the last page's number. */
const offsets = { magic: 24, pageSize: 48, lastPage: 144 } as const;

/** Space that a start needs, and an end: some transactions of a few pages each, in bytes. */
export const startBytes = 128 * 1024;

/**
 * A commit is visible once it is flushed, and not before: what a reader has seen, no crash takes away. lmdb's own batches
 * of an event turn are off: ours take their place, and theirs fail unobserved.
 */
const commonOptions = { noSubdir: false, maxDbs: 16, overlappingSync: false, eventTurnBatching: false };

/** The files of an environment. */
const files = ["data.mdb", "lock.mdb"];

export interface OpenOptions {
  readonly warn?: ((message: string) => void) | undefined;
  /** Where the files are, which errors do not name. Default: in the directory. */
  readonly at?: string;
}

/** Why a directory cannot be used. */
export function unusable(dir: string, cause: unknown): DomainError {
  if (cause instanceof DomainError) return cause;
  if (lacksSpace(cause)) {
    const detail = `the disk of ${dir} is full, and a start needs ${startBytes / 1024} KiB: free some space on it`;
    return new DomainError({ kind: "store-full", detail }, { cause });
  }
  return new DomainError({ kind: "store-unreadable", dir, detail: messageOf(cause) }, { cause });
}

/** Makes the directory of a store, for this user alone, unless it exists. */
export function makeStoreDirectory(dir: string): void {
  try {
    makeDirectory(resolve(dir), privateModes.directory);
  } catch (cause) {
    throw unusable(dir, cause);
  }
}

/**
 * Opens the environment, after checks that leave everything as it is when something is wrong. What it makes is for this
 * user alone. What is there already keeps its mode, which somebody may have chosen; `warn` is called if others can read
 * or change it.
 */
export function openTables(dir: string, { warn = () => undefined, at = dir }: OpenOptions = {}): Tables {
  makeStoreDirectory(at);
  const path = join(at, "data.mdb");
  requireIntact(dir, path, "r+");
  for (const message of [
    describeOpenMode(at, privateModes.directory),
    ...files.map((name) => describeOpenMode(join(at, name), privateModes.file)),
  ]) {
    if (message !== undefined) warn(message);
  }
  let root: RootDatabase;
  try {
    const options = { ...commonOptions, path: at };
    // lmdb reads this option too, but its types do not know it. Without it files are made with 0664.
    allocateLockFile(at);
    root = open({ ...options, permissionsMode: privateModes.file } as typeof options);
  } catch (cause) {
    throw unusable(dir, cause);
  }
  try {
    // LMDB writes its tables when they are opened, and must not meet a full disk: see lmdb-headroom.ts.
    const { lastPageNumber, pageSize } = statsOf(root);
    extendSync(path, (lastPageNumber + 1) * pageSize, startBytes);
  } catch (cause) {
    void root.close();
    throw unusable(dir, cause);
  }
  try {
    const meta = root.openDB<unknown, string>({ name: "meta", encoding: "json" });
    const found = meta.get("format");
    const hasData = [...root.getKeys({ limit: 2 })].length > 1;
    if (found === undefined && hasData) throw new Error("it is not a store of Sluice");
    if (found !== undefined && !readable.includes(found)) {
      throw new Error(unknownFormat(found));
    }
    if (found === undefined) {
      root.transactionSync(() => {
        meta.putSync("format", format);
        meta.putSync("bytes", 0);
      });
    }
    return { root, meta, ...openRows(root) };
  } catch (cause) {
    void root.close();
    throw new DomainError({ kind: "store-corrupt", dir, detail: messageOf(cause) }, { cause });
  }
}

/**
 * Opens the environment for reading alone, also beside the process that owns it, and on a file system that cannot be
 * written. Nothing is made or upgraded, and a table that an older format does not have is absent.
 */
export function openForReading(dir: string): Partial<Tables> & Pick<Tables, "root" | "meta"> {
  requireStore(dir);
  requireIntact(dir, join(dir, "data.mdb"), "r");
  let root: RootDatabase;
  try {
    root = open({ ...commonOptions, path: dir, readOnly: true });
  } catch (cause) {
    throw unusable(dir, cause);
  }
  // A table that is missing is undefined, which lmdb's types do not say.
  const meta = root.openDB<unknown, string>({ name: "meta", encoding: "json" }) as Tables["meta"] | undefined;
  const found = meta?.get("format");
  if (meta === undefined || !readable.includes(found)) {
    void root.close();
    const detail = meta === undefined ? "it is not a store of Sluice" : unknownFormat(found);
    throw new DomainError({ kind: "store-corrupt", dir, detail });
  }
  return { root, meta, ...(openRows(root) as Partial<Tables>) };
}

/** Throws "store-unreadable" if there is no store in the directory. */
export function requireStore(dir: string): void {
  if (existsSync(join(dir, "data.mdb"))) return;
  throw new DomainError({ kind: "store-unreadable", dir, detail: "there is no data.mdb in it" });
}

function openRows(root: RootDatabase): Omit<Tables, "root" | "meta"> {
  return {
    streams: root.openDB({ name: "streams", encoding: "msgpack" }),
    retained: root.openDB({ name: "retained", encoding: "json" }),
    batches: root.openDB({ name: "batches", encoding: "binary" }),
    producers: root.openDB({ name: "producers", encoding: "msgpack" }),
    positions: root.openDB({ name: "positions", encoding: "msgpack" }),
    garbage: root.openDB({ name: "garbage", encoding: "json" }),
  };
}

function unknownFormat(found: unknown): string {
  return `it has format ${JSON.stringify(found)}, and this version of Sluice reads format ${format}`;
}

/** Makes the directory, for this user alone, and those above it, as they usually are. */
function makeDirectory(dir: string, mode?: number): void {
  const parent = dirname(dir);
  // Where nothing can be made, as in /proc, mkdir's own `recursive` tries for ever (seen with Node 24.21).
  if (!existsSync(parent)) makeDirectory(parent);
  try {
    mkdirSync(dir, mode);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EEXIST" || !statSync(dir).isDirectory()) throw cause;
  }
}

function requireIntact(dir: string, path: string, flags: "r" | "r+"): void {
  const problem = checkFile(path, flags, (cause) => unusable(dir, cause));
  if (problem !== undefined) throw new DomainError({ kind: "store-corrupt", dir, detail: problem });
}

/** What is wrong with the file, if anything: LMDB itself would map garbage, and end the process. */
function checkFile(path: string, flags: "r" | "r+", unreadable: (cause: unknown) => DomainError): string | undefined {
  let size: number;
  try {
    size = statSync(path).size;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw unreadable(cause);
  }
  if (size === 0) return undefined;
  let file: number;
  try {
    file = openSync(path, flags);
  } catch (cause) {
    throw unreadable(cause);
  }
  try {
    const metaPage = Buffer.alloc(offsets.lastPage + 8);
    if (readSync(file, metaPage, 0, metaPage.length, 0) < metaPage.length) return "data.mdb is cut off";
    if (metaPage.readUInt32LE(offsets.magic) !== magic) return "data.mdb is not an LMDB file";
    const pageSize = metaPage.readUInt32LE(offsets.pageSize);
    const lastPages = [0, pageSize].map((at) => {
      const read = readSync(file, metaPage, 0, metaPage.length, at);
      const valid = read === metaPage.length && metaPage.readUInt32LE(offsets.magic) === magic;
      return valid ? Number(metaPage.readBigUInt64LE(offsets.lastPage)) : NaN;
    });
    if (lastPages.some((page) => Number.isNaN(page))) return "data.mdb has a broken meta page";
    // The older of the two meta pages never needs more than the newer one.
    const needed = (Math.max(...lastPages) + 1) * pageSize;
    return size < needed ? `data.mdb has ${size} bytes, but needs ${needed}` : undefined;
  } finally {
    closeSync(file);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
