import { createHash } from "node:crypto";
import type { Hash } from "node:crypto";
import { reasonOf } from "../async/signals.ts";
import type { Store } from "../store/store.ts";

/** Records that are read at once, at most: those without data would be all at once. */
const chunkRecords = 10_000;

/** The SHA-256 of the data of the records from `from` up to `to`, read in chunks. */
export async function hashRange(
  store: Store,
  stream: string,
  from: number,
  to: number,
  chunkBytes: number,
  signal: AbortSignal,
): Promise<Hash> {
  const hash = createHash("sha256");
  let generation: number | undefined;
  for (let seq = from; seq < to;) {
    if (signal.aborted) throw reasonOf(signal);
    const result = await store.read(stream, seq, {
      maxRecords: Math.min(to - seq, chunkRecords),
      maxBytes: chunkBytes,
      ...(generation === undefined ? {} : { generation }),
    });
    generation = result.generation;
    for (const batch of result.batches) for (const record of batch.records) hash.update(record.data);
    seq = result.nextSeq;
    // A long stream must not keep others waiting.
    await new Promise(setImmediate);
  }
  return hash;
}
