import { existsSync, renameSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { TimeSlice } from "../async/time-slice.ts";
import { Throttle } from "../async/throttle.ts";
import { DomainError } from "../errors.ts";
import { decodeArchive, encodeEntry } from "./archive.ts";
import type { ArchiveEntry, ArchiveHead, Totals } from "./archive.ts";
import { archiveOf } from "./archive-source.ts";
import { Draft } from "./lmdb-draft.ts";
import { StoreClaim, connectToOwner } from "./lmdb-claim.ts";
import { makeStoreDirectory, openTables, requireStore, unusable } from "./lmdb-env.ts";
import type { Tables } from "./lmdb-env.ts";
import { lockStore } from "./lmdb-lock.ts";
import { flushFile, placeFile, removeDrafts } from "./lmdb-make.ts";
import { Snapshot } from "./lmdb-snapshot.ts";
import type { Entry } from "./lmdb-snapshot.ts";
import { askForBackup } from "./owner-requests.ts";
import { Tally } from "./tally.ts";

export interface CopyOptions {
  readonly signal: AbortSignal;
  /** Called with how much has been copied, and with about how much there is, in bytes. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

export interface BackupOptions extends CopyOptions {
  /** Of the Sluice that makes it. */
  readonly version: string;
  /** Bytes per second, so that a server that uses the disk is not slowed down. */
  readonly rate: number;
}

/**
 * Writes the store of a directory, as it is at one moment, to a sink, which resolves when it has room for more. A server
 * that uses the directory is asked for it, and goes on meanwhile. Damaged batches are copied as they are.
 */
export async function backUp(
  dir: string,
  write: (bytes: Buffer) => Promise<void>,
  { version, rate, signal, onProgress }: BackupOptions,
): Promise<Totals> {
  const throttle = new Throttle(rate);
  let totals: Totals | undefined;
  let aboutBytes = 0;
  let done = 0;
  for await (const entry of entriesOf(dir, version, signal)) {
    if (entry.kind === "head") ({ aboutBytes } = entry.head);
    else if (entry.kind === "batch") done += entry.value.byteLength;
    else if (entry.kind === "end") ({ totals } = entry);
    const bytes = encodeEntry(entry);
    await write(bytes);
    await throttle.pass(bytes.length, signal);
    onProgress?.(done, Math.max(aboutBytes, done));
  }
  if (totals === undefined) throw new Error("the entries of a backup have no end");
  return totals;
}

async function* entriesOf(dir: string, version: string, signal: AbortSignal): AsyncGenerator<ArchiveEntry> {
  const owner = await connectToOwner(dir);
  if (owner !== undefined) {
    yield* askForBackup(owner, dir, version, signal);
    return;
  }
  const snapshot = await Snapshot.open(dir, signal);
  try {
    yield* archiveOf(snapshot, version, signal);
  } finally {
    await snapshot.close();
  }
}

/** What a backup says about itself, and what is in it. */
export interface ArchiveSummary extends Totals {
  readonly head: ArchiveHead;
}

/** The bytes of a backup. */
export interface ArchiveInput {
  readonly chunks: AsyncIterable<Uint8Array>;
  /** How many there are, in bytes; undefined: that is not known. */
  readonly size: number | undefined;
}

/** Reads a backup to its end, and checks every byte of it. Throws "archive-damaged". */
export async function checkArchive(
  { chunks, size = 0 }: ArchiveInput,
  { signal, onProgress }: CopyOptions,
  each: (entry: Entry, batch: ReturnType<Tally["add"]>) => Promise<void> = () => Promise.resolve(),
): Promise<ArchiveSummary> {
  const tally = new Tally();
  const slice = new TimeSlice(signal);
  let head: ArchiveHead | undefined;
  const onBytes = (done: number): void => onProgress?.(done, Math.max(size, done));
  for await (const entry of decodeArchive(counted(chunks, onBytes))) {
    slice.check();
    if (entry.kind === "head") head = entry.head;
    else if (entry.kind === "end") requireSame(entry.totals, tally.totals);
    else await each(entry, tally.add(entry));
    if (slice.isOver) await slice.next();
  }
  if (head === undefined) throw new DomainError({ kind: "archive-damaged", detail: "it has no head" });
  return { ...tally.totals, head };
}

async function* counted(
  chunks: AsyncIterable<Uint8Array>,
  onBytes: (done: number) => void,
): AsyncGenerator<Uint8Array> {
  let done = 0;
  for await (const chunk of chunks) {
    yield chunk;
    onBytes((done += chunk.byteLength));
  }
}

function requireSame(written: Totals, found: Totals): void {
  const { streams, batches } = found;
  if (written.streams === streams && written.batches === batches && written.bytes === found.bytes) return;
  const detail = `it has ${streams} streams and ${batches} batches, where ${written.streams} and ${written.batches} were written`;
  throw new DomainError({ kind: "archive-damaged", detail });
}

/**
 * Makes the store of a directory, which must have none, out of a backup. Its streams get new uids: a reader or an appender
 * of later than the backup is told that the stream was replaced, and does not go on in older data.
 */
export async function restore(input: ArchiveInput, dir: string, options: CopyOptions): Promise<ArchiveSummary> {
  makeStoreDirectory(dir);
  const target = join(dir, "data.mdb");
  requireAbsent(dir, target);
  const draft = new Draft(dir, { newUids: true });
  try {
    const summary = await checkArchive(input, options, (entry, batch) => draft.add(entry, batch));
    const made = await draft.finish();
    requireAbsent(dir, target);
    try {
      placeFile(made, target);
    } catch (cause) {
      requireAbsent(dir, target);
      throw unusable(dir, cause);
    }
    flushFile(dir);
    flushFile(dirname(resolve(dir)));
    return summary;
  } finally {
    await draft.discard();
  }
}

function requireAbsent(dir: string, target: string): void {
  if (existsSync(target)) throw new DomainError({ kind: "store-exists", dir });
}

/** What a store takes on the disk, in bytes, before and after it was made compact. */
export interface Compaction extends Totals {
  readonly before: number;
  readonly after: number;
}

/**
 * Writes the store of a directory anew, without the space that deletes and trims have left, and with a checksum for each
 * batch. For a directory that no server uses: otherwise "store-locked". A power cut leaves the old store or the new one.
 */
export async function compact(dir: string, { signal, onProgress }: CopyOptions): Promise<Compaction> {
  const target = join(dir, "data.mdb");
  requireStore(dir);
  const before = statSync(target).size;
  const claim = await StoreClaim.take(dir, signal);
  try {
    const tables = openTables(dir);
    try {
      const ownership = await lockStore(dir, tables, claim);
      try {
        removeDrafts(dir);
        const draft = new Draft(dir, { newUids: false });
        try {
          const options = { signal, ...(onProgress === undefined ? {} : { onProgress }) };
          const totals = await copyTo(draft, tables, options);
          const made = await draft.finish();
          signal.throwIfAborted();
          renameSync(made, target);
          flushFile(dir);
          return { ...totals, before, after: statSync(target).size };
        } finally {
          await draft.discard();
        }
      } finally {
        ownership.release();
      }
    } finally {
      await tables.root.close();
    }
  } finally {
    claim.close();
  }
}

async function copyTo(draft: Draft, tables: Tables, { signal, onProgress }: CopyOptions): Promise<Totals> {
  const snapshot = new Snapshot(tables);
  const tally = new Tally();
  const slice = new TimeSlice(signal);
  try {
    const aboutBytes = Number(snapshot.meta("bytes") ?? 0);
    for (const entry of snapshot.entries()) {
      slice.check();
      await draft.add(entry, tally.add(entry));
      onProgress?.(tally.totals.bytes, Math.max(aboutBytes, tally.totals.bytes));
      if (slice.isOver) await slice.next();
    }
    return tally.totals;
  } finally {
    await snapshot.close();
  }
}
