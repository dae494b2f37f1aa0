import { createHash } from "node:crypto";
import type { Hash } from "node:crypto";
import { reasonOf } from "../async/signals.ts";
import type { Store } from "../store/store.ts";

/** Records that are read at once, at most: those without data would be all at once. */
const chunkRecords = 10_000;

/** Records of a stream, from one seq up to, but without, another. */
export interface Range {
  readonly stream: string;
  readonly uid: string;
  readonly from: number;
  readonly to: number;
}

/** The SHA-256 of the data of the records, read in chunks. */
export async function hashRange(
  store: Store,
  { stream, uid, from, to }: Range,
  chunkBytes: number,
  signal: AbortSignal,
): Promise<Hash> {
  const hash = createHash("sha256");
  for (let seq = from; seq < to;) {
    if (signal.aborted) throw reasonOf(signal);
    const result = await store.read(stream, seq, {
      maxRecords: Math.min(to - seq, chunkRecords),
      maxBytes: chunkBytes,
      expectedUid: uid,
    });
    for (const batch of result.batches) for (const record of batch.records) hash.update(record.data);
    seq = result.nextSeq;
    // A long stream must not keep others waiting.
    await new Promise(setImmediate);
  }
  return hash;
}
