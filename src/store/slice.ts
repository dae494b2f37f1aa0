import { recordSize } from "./store.ts";
import type { ReadOptions, StoredBatch, StoredRecord } from "./store.ts";

/** Cuts stored batches to what a read asked for. */
export function slice(
  stored: Iterable<StoredBatch>,
  fromSeq: number,
  { maxRecords, maxBytes }: ReadOptions,
): { batches: StoredBatch[]; nextSeq: number } {
  const batches: StoredBatch[] = [];
  let nextSeq = fromSeq;
  let records = 0;
  let bytes = 0;
  for (const batch of stored) {
    const begin = Math.max(0, fromSeq - batch.firstSeq);
    let end = begin;
    for (; end < batch.records.length && records < maxRecords; end++, records++) {
      const record = batch.records[end];
      if (record === undefined) break;
      const size = recordSize(record);
      if (bytes + size > maxBytes && records > 0) break;
      bytes += size;
    }
    if (end > begin) {
      const whole = begin === 0 && end === batch.records.length;
      batches.push(
        whole
          ? batch
          : {
              firstSeq: batch.firstSeq + begin,
              timeMs: batch.timeMs,
              records: batch.records.slice(begin, end).map(detach),
            },
      );
      nextSeq = batch.firstSeq + end;
    }
    if (end < batch.records.length || records >= maxRecords || bytes >= maxBytes) break;
  }
  return { batches, nextSeq };
}

/** A copy of its own, so that a part of a batch does not hold the whole in memory while a slow reader takes it. */
function detach({ data, headers }: StoredRecord): StoredRecord {
  return { data: Uint8Array.prototype.slice.call(data), headers };
}
