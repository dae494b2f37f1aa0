import { DomainError } from "../errors.ts";
import { ageFrom } from "./age.ts";
import { DamagedBatch, decodeBatch, decodeHead, likelySize } from "./lmdb-codec.ts";
import type { BatchHead, BatchTimes } from "./lmdb-codec.ts";
import type { Commit } from "./lmdb-commit.ts";
import type { StreamRow, Tables } from "./lmdb-env.ts";
import { batchCost } from "./lmdb-costs.ts";
import { overflowPagesOf } from "./lmdb-page-bound.ts";
import { recordSize } from "./store.ts";
import type { StoredBatch, StreamInfo } from "./store.ts";

/** Keys that one operation removes at most, so that a large stream does not hold up the others. */
export const removalChunk = 500;
/** The same for the size of the batches that it looks at, in bytes. */
export const removalChunkBytes = 4 * 1024 * 1024;

/** The first seq of the batch that holds `seq`, if there is one that begins at it or before. */
export function batchStart({ batches }: Tables, id: number, seq: number): number | undefined {
  const range = { start: [id, seq] as [number, number], end: [id, -1] as [number, number], reverse: true, limit: 1 };
  for (const key of batches.getKeys(range)) return key[1];
  return undefined;
}

/**
 * The batches from the one that holds `fromSeq` on, up to the tail. Throws "records-damaged" if what is stored at
 * `fromSeq` is not what was: what is intact before a damaged batch is given out without a failure.
 */
export function* batchesFrom(tables: Tables, { id, info }: StreamRow, fromSeq: number): Generator<StoredBatch> {
  const { tail } = info;
  const start = batchStart(tables, id, fromSeq) ?? fromSeq;
  let next = fromSeq;
  let failure: DamagedBatch | undefined;
  for (const { key, value } of tables.batches.getRange({ start: [id, start], end: [id, tail] })) {
    let batch: StoredBatch;
    try {
      batch = decodeBatch(key, value);
    } catch (error) {
      failure = damage(error);
      break;
    }
    const end = key[1] + batch.records.length;
    if (end <= fromSeq) continue;
    // One that begins later leaves a gap.
    if (key[1] > next) break;
    next = end;
    yield batch;
  }
  if (next === fromSeq && next < tail) throw damaged(tables, { id, info }, fromSeq, failure);
}

/** The error for a reader who asks for `seq`. */
function damaged(
  tables: Tables,
  { id, info }: Pick<StreamRow, "id" | "info">,
  seq: number,
  cause: DamagedBatch | undefined,
): DomainError {
  const { name: stream, head, tail } = info;
  const nextSeq = followingKey(tables, id, seq, tail);
  return new DomainError({ kind: "records-damaged", stream, seq, nextSeq, head, tail }, { cause });
}

/** The first seq of the batch behind the one at `seq`; the tail if there is none. */
function followingKey({ batches }: Tables, id: number, seq: number, tail: number): number {
  // A damaged key may be no whole number.
  for (const key of batches.getKeys({ start: [id, seq + 1], end: [id, tail] })) {
    if (Number.isSafeInteger(key[1])) return key[1];
  }
  return tail;
}

/** The error, if it is a batch's damage; throws all others. */
function damage(error: unknown): DamagedBatch {
  if (error instanceof DamagedBatch) return error;
  throw error;
}

/** A batch as far as its head tells, undecoded. */
interface StoredHead extends BatchTimes {
  readonly firstSeq: number;
  readonly nextSeq: number;
  /** Of its records, in bytes. Of a damaged batch, what is likely. */
  readonly size: number;
  readonly value: Buffer;
  readonly isDamaged: boolean;
}

/** As `batchesFrom`, without decoding the records, and with the damaged ones, so that they can be removed. */
function* headsFrom(tables: Tables, { id, info }: StreamRow, until: number): Generator<StoredHead> {
  const start = batchStart(tables, id, info.head) ?? info.head;
  // When a damaged batch was stored is not known: no later than the one behind it.
  const latestMs = info.appendTimeMs ?? info.createTimeMs;
  for (const { key, value } of tables.batches.getRange({ start: [id, start], end: [id, until] })) {
    const firstSeq = key[1];
    try {
      const head = decodeHead(key, value);
      yield { ...head, firstSeq, nextSeq: firstSeq + head.count, value, isDamaged: false };
    } catch (error) {
      damage(error);
      const nextSeq = followingKey(tables, id, firstSeq, info.tail);
      const times = timesAt(tables, id, nextSeq) ?? { timeMs: latestMs, arrivalMs: latestMs };
      yield { ...times, firstSeq, nextSeq, size: likelySize(value), value, isDamaged: true };
    }
  }
}

/** Of the batch at this seq; undefined if there is none, or it is damaged. */
function timesAt({ batches }: Tables, id: number, seq: number): BatchTimes | undefined {
  const value = batches.get([id, seq]);
  try {
    return value && decodeHead([id, seq], value);
  } catch (error) {
    damage(error);
    return undefined;
  }
}

/** The size of the batch's records from `from` up to `to`. */
function sizeBetween(id: number, batch: StoredHead, from: number, to: number): number {
  const { firstSeq, nextSeq, size, value, isDamaged } = batch;
  if (from <= firstSeq && to >= nextSeq) return size;
  // It counts until it is removed.
  if (isDamaged) return to >= nextSeq ? size : 0;
  let bytes = 0;
  const { records } = decodeBatch([id, firstSeq], value);
  for (const record of records.slice(Math.max(0, from - firstSeq), to - firstSeq)) bytes += recordSize(record);
  return bytes;
}

/** What a removal of records leaves and frees. */
export interface Removal {
  /** To be stored. */
  readonly row: StreamRow;
  /** Whether there is nothing more to remove. */
  readonly done: boolean;
  /** What is freed, as `lmdb-costs.ts` counts it. */
  readonly freed: number;
}

/** Removes records below `beforeSeq`, some batches at a time. */
export function dropBefore(tables: Tables, commit: Commit, row: StreamRow, beforeSeq: number): Removal {
  const { id, info } = row;
  // What the same commit has appended can be looked at once it is durable.
  const durable = tables.streams.get(info.name);
  const until = durable?.id === id ? Math.min(beforeSeq, durable.info.tail) : 0;
  let { head, bytes } = info;
  let { stored } = row;
  let looked = 0;
  let lookedBytes = 0;
  let done = until === beforeSeq;
  let freedPages = 0;
  const gone: [number, number][] = [];
  for (const batch of headsFrom(tables, row, until)) {
    if (looked++ === removalChunk || lookedBytes > removalChunkBytes) {
      done = false;
      break;
    }
    lookedBytes += batch.size;
    const end = Math.min(batch.nextSeq, until);
    bytes -= sizeBetween(id, batch, head, end);
    head = end;
    if (batch.nextSeq > until) continue;
    gone.push([id, batch.firstSeq]);
    stored -= batchCost(batch.value.byteLength);
    freedPages += overflowPagesOf(batch.value.byteLength);
  }
  commit.removeRun(tables.batches, gone, freedPages);
  if (done) head = Math.max(head, beforeSeq);
  // Of what was damaged the size is not known.
  if (head === info.tail) [bytes, stored] = [0, 0];
  const trimmed = { ...info, head, bytes: Math.max(0, bytes) };
  stored = Math.max(0, stored);
  return { row: { ...row, stored, info: trimmed }, done, freed: row.stored - stored };
}

/** The seq that the stream's retention keeps records from; after many batches, one that it does not keep either. */
export function retainedFrom(tables: Tables, row: StreamRow, nowMs: number): number {
  const { id, newest, noticed, info } = row;
  const { maxAgeMs = Infinity, maxBytes = Infinity, maxRecords = Infinity } = info.retention;
  let { bytes, head } = info;
  let looked = 0;
  let lookedBytes = 0;
  for (const batch of headsFrom(tables, row, info.tail)) {
    const isOld = ageFrom(batch, noticed, nowMs) < nowMs - maxAgeMs;
    if (!isOld && bytes <= maxBytes && info.tail - head <= maxRecords) break;
    if (batch.firstSeq >= newest || looked++ === removalChunk || lookedBytes > removalChunkBytes) break;
    lookedBytes += batch.size;
    bytes -= sizeBetween(id, batch, head, batch.nextSeq);
    head = batch.nextSeq;
  }
  return head;
}

/** Whether the retention may ask for batches to leave. Age is left to the sweep. */
export function isOver({ bytes, head, tail, retention }: StreamInfo, newestBefore: number): boolean {
  const { maxBytes = Infinity, maxRecords = Infinity } = retention;
  return (bytes > maxBytes || tail - head > maxRecords) && newestBefore >= head;
}

/** The first seq that was stored at that time or later; the tail if there is none. Throws "records-damaged". */
export function seqAtTime(tables: Tables, row: StreamRow, timeMs: number): number {
  const { id, info } = row;
  // The times of batches never go backwards: search for the first that is late enough.
  let low = info.head;
  let high = info.tail;
  while (low < high) {
    const middle = low + Math.floor((high - low) / 2);
    const firstSeq = batchStart(tables, id, middle) ?? info.head;
    const head = headOf(tables, row, firstSeq);
    const end = firstSeq + head.count;
    if (end <= middle) throw damaged(tables, row, Math.max(low, end), undefined);
    if (head.timeMs >= timeMs) high = Math.max(low, Math.min(firstSeq, middle));
    else low = end;
    if (head.timeMs >= timeMs && firstSeq <= low) break;
  }
  return Math.max(low, info.head);
}

function headOf(tables: Tables, { id, info }: StreamRow, firstSeq: number): BatchHead {
  const value = tables.batches.get([id, firstSeq]);
  let failure: DamagedBatch | undefined;
  try {
    if (value !== undefined) return decodeHead([id, firstSeq], value);
  } catch (error) {
    failure = damage(error);
  }
  throw damaged(tables, { id, info }, firstSeq, failure);
}
