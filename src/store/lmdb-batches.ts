import { recordSize } from "./store.ts";
import type { StoredBatch, StreamInfo } from "./store.ts";
import { decodeBatch } from "./lmdb-codec.ts";
import type { Commit } from "./lmdb-commit.ts";
import type { StreamRow, Tables } from "./lmdb-env.ts";

/** Keys that one operation removes at most, so that a large stream does not hold up the others. */
export const removalChunk = 500;

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

/** Removes records below `beforeSeq`, some batches at a time; `freed` is their size. */
export function dropBefore(
  tables: Tables,
  commit: Commit,
  row: StreamRow,
  beforeSeq: number,
): { info: StreamInfo; done: boolean; freed: number } {
  const { streams, batches } = tables;
  const { id, info } = row;
  let { head } = info;
  let freed = 0;
  let removed = 0;
  for (const batch of batchesFrom(tables, id, head, info.tail)) {
    if (batch.firstSeq >= beforeSeq || removed === removalChunk) break;
    const next = batch.firstSeq + batch.records.length;
    const end = Math.min(next, beforeSeq);
    for (const record of batch.records.slice(head - batch.firstSeq, end - batch.firstSeq)) freed += recordSize(record);
    head = end;
    if (next <= beforeSeq) {
      commit.remove(batches, [id, batch.firstSeq]);
      removed++;
    }
  }
  const done = head >= beforeSeq || removed < removalChunk;
  const trimmed = { ...info, head: done ? Math.max(head, beforeSeq) : head, bytes: info.bytes - freed };
  commit.put(streams, info.name, { ...row, info: trimmed });
  return { info: trimmed, done, freed };
}

/** The seq that the stream's retention keeps records from. */
export function retainedFrom(tables: Tables, { id, newest, info }: StreamRow, nowMs: number): number {
  const { maxAgeMs = Infinity, maxBytes = Infinity, maxRecords = Infinity } = info.retention;
  let { bytes, head } = info;
  let looked = 0;
  for (const batch of batchesFrom(tables, id, head, info.tail)) {
    const over = batch.timeMs < nowMs - maxAgeMs || bytes > maxBytes || info.tail - head > maxRecords;
    if (!over || batch.firstSeq >= newest || looked++ === removalChunk) break;
    for (const record of batch.records.slice(head - batch.firstSeq)) bytes -= recordSize(record);
    head = batch.firstSeq + batch.records.length;
  }
  return head;
}

/** Whether the retention may ask for batches to leave. Age is left to the sweep. */
export function isOver({ bytes, head, tail, retention }: StreamInfo, newestBefore: number): boolean {
  const { maxBytes = Infinity, maxRecords = Infinity } = retention;
  return (bytes > maxBytes || tail - head > maxRecords) && newestBefore >= head;
}
