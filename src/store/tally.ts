import type { Totals } from "./archive.ts";
import { DamagedBatch, decodeBatch } from "./lmdb-codec.ts";
import type { Entry } from "./lmdb-snapshot.ts";
import type { StoredBatch } from "./store.ts";

/** Counts what is in a store or a backup, and looks at each batch. */
export class Tally {
  #streams = 0;
  #batches = 0;
  #records = 0;
  #bytes = 0;
  #damaged = 0;

  get totals(): Totals {
    return {
      streams: this.#streams,
      batches: this.#batches,
      records: this.#records,
      bytes: this.#bytes,
      damaged: this.#damaged,
    };
  }

  /** Returns the batch of an entry that has one, unless it is damaged. */
  add(entry: Entry): StoredBatch | undefined {
    if (entry.kind === "stream") this.#streams++;
    if (entry.kind !== "batch") return undefined;
    this.#batches++;
    this.#bytes += entry.value.byteLength;
    try {
      const batch = decodeBatch(entry.key, entry.value);
      this.#records += batch.records.length;
      return batch;
    } catch (error) {
      if (!(error instanceof DamagedBatch)) throw error;
      this.#damaged++;
      return undefined;
    }
  }
}
