import { recordSize } from "./store.ts";
import type { StoredBatch, StreamInfo } from "./store.ts";
import { decodeBatch, decodeHead } from "./lmdb-codec.ts";
import type { Commit } from "./lmdb-commit.ts";
import type { StreamRow, Tables } from "./lmdb-env.ts";
import { overflowPagesOf } from "./lmdb-page-bound.ts";

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

/** The batches from the one that holds `fromSeq` on. */
export function* batchesFrom(tables: Tables, id: number, fromSeq: number, tail: number): Generator<StoredBatch> {
  const start = batchStart(tables, id, fromSeq) ?? fromSeq;
  for (const { key, value } of tables.batches.getRange({ start: [id, start], end: [id, tail] })) {
    const batch = decodeBatch(key[1], value);
    if (batch.firstSeq + batch.records.length > fromSeq) yield batch;
  }
}

/** A batch as far as its head tells, undecoded. */
interface StoredHead {
  readonly firstSeq: number;
  readonly nextSeq: number;
  readonly timeMs: number;
  /** Of its records, in bytes. */
  readonly size: number;
  readonly value: Buffer;
}

/** As `batchesFrom`, without decoding the records. */
function* headsFrom({ batches }: Tables, id: number, start: number, tail: number): Generator<StoredHead> {
  for (const { key, value } of batches.getRange({ start: [id, start], end: [id, tail] })) {
    const { timeMs, size, count } = decodeHead(value);
    yield { firstSeq: key[1], nextSeq: key[1] + count, timeMs, size, value };
  }
}

/** The size of the batch's records from `from` up to `to`. */
function sizeBetween({ firstSeq, nextSeq, size, value }: StoredHead, from: number, to: number): number {
  if (from <= firstSeq && to >= nextSeq) return size;
  let bytes = 0;
  const { records } = decodeBatch(firstSeq, value);
  for (const record of records.slice(Math.max(0, from - firstSeq), to - firstSeq)) bytes += recordSize(record);
  return bytes;
}

/** Removes records below `beforeSeq`, some batches at a time; `freed` is their size. The row is to be stored. */
export function dropBefore(
  tables: Tables,
  commit: Commit,
  row: StreamRow,
  beforeSeq: number,
): { row: StreamRow; done: boolean; freed: number } {
  const { id, info } = row;
  // What the same commit has appended can be looked at once it is durable.
  const durable = tables.streams.get(info.name);
  const until = durable?.id === id ? Math.min(beforeSeq, durable.info.tail) : 0;
  let { head } = info;
  let freed = 0;
  let looked = 0;
  let lookedBytes = 0;
  let done = until === beforeSeq;
  let freedPages = 0;
  const gone: [number, number][] = [];
  for (const batch of headsFrom(tables, id, batchStart(tables, id, head) ?? head, until)) {
    if (looked++ === removalChunk || lookedBytes > removalChunkBytes) {
      done = false;
      break;
    }
    lookedBytes += batch.size;
    const end = Math.min(batch.nextSeq, until);
    freed += sizeBetween(batch, head, end);
    head = end;
    if (batch.nextSeq > until) continue;
    gone.push([id, batch.firstSeq]);
    freedPages += overflowPagesOf(batch.value.byteLength);
  }
  commit.removeRun(tables.batches, gone, freedPages);
  const trimmed = { ...info, head: done ? Math.max(head, beforeSeq) : head, bytes: info.bytes - freed };
  return { row: { ...row, info: trimmed }, done, freed };
}

/** The seq that the stream's retention keeps records from; after many batches, one that it does not keep either. */
export function retainedFrom(tables: Tables, { id, newest, info }: StreamRow, nowMs: number): number {
  const { maxAgeMs = Infinity, maxBytes = Infinity, maxRecords = Infinity } = info.retention;
  let { bytes, head } = info;
  let looked = 0;
  let lookedBytes = 0;
  for (const batch of headsFrom(tables, id, batchStart(tables, id, head) ?? head, info.tail)) {
    const over = batch.timeMs < nowMs - maxAgeMs || bytes > maxBytes || info.tail - head > maxRecords;
    if (!over || batch.firstSeq >= newest || looked++ === removalChunk || lookedBytes > removalChunkBytes) break;
    lookedBytes += batch.size;
    bytes -= sizeBetween(batch, head, batch.nextSeq);
    head = batch.nextSeq;
  }
  return head;
}

/** Whether the retention may ask for batches to leave. Age is left to the sweep. */
export function isOver({ bytes, head, tail, retention }: StreamInfo, newestBefore: number): boolean {
  const { maxBytes = Infinity, maxRecords = Infinity } = retention;
  return (bytes > maxBytes || tail - head > maxRecords) && newestBefore >= head;
}
