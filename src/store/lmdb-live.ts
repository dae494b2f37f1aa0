import type { StreamRow } from "./lmdb-env.ts";
import { firstIndex } from "./name-order.ts";
import { recordsSize } from "./store.ts";
import type { StoredBatch } from "./store.ts";
import { Watchers } from "./watchers.ts";

/** Bytes of records that are kept for the readers at the tails of all streams, at most. */
const maxBytes = 16 * 1024 * 1024;
/**
 * Batches of one stream that are kept: a reader that is further behind is not at the tail. Enough that readers who fall
 * behind, because there are many of them, do not cost more for it.
 */
const maxBatches = 1024;
/** Batches that one read gets, at most. */
const batchesPerRead = 64;
/** What a batch costs besides its records, about, in bytes. */
const batchOverhead = 256;

interface LiveStream {
  /** As it is durable; undefined if there is none of this name. */
  row: StreamRow | undefined;
  /** The newest batches, without a gap up to the tail. */
  batches: StoredBatch[];
  bytes: number;
}

/**
 * The streams that have listeners. Keeps in memory what every reader at the tail
 * asks for: the stream's row and its newest batches.
 */
export class LiveStreams {
  readonly #load: (name: string) => StreamRow | undefined;
  readonly #isCurrent: () => boolean;
  readonly #watchers = new Watchers();
  readonly #streams = new Map<string, LiveStream>();
  #bytes = 0;

  /**
   * `load` reads the durable row of a stream. `isCurrent` tells whether every commit that may be durable has been noted
   * with `update`.
   */
  constructor(load: (name: string) => StreamRow | undefined, isCurrent: () => boolean) {
    this.#load = load;
    this.#isCurrent = isCurrent;
  }

  watch(name: string, listener: () => void): () => void {
    const cleanup = this.#watchers.watch(name, listener);
    if (!this.#streams.has(name)) this.#streams.set(name, { row: this.#load(name), batches: [], bytes: 0 });
    return () => {
      cleanup();
      if (this.#watchers.has(name)) return;
      this.#forget(this.#streams.get(name));
      this.#streams.delete(name);
    };
  }

  /**
   * The durable row of the stream, watched or not. What is in memory may be older than what is durable while a commit is
   * on its way: others have seen what it brings (an appender that is opened, a list), and its batches may be gone already.
   */
  row(name: string): StreamRow | undefined {
    const live = this.#streams.get(name);
    return live !== undefined && this.#isCurrent() ? live.row : this.#load(name);
  }

  /** Some batches of the stream from the one that holds `seq` on; undefined if they are not in memory. */
  batchesFrom({ id, info }: StreamRow, seq: number): readonly StoredBatch[] | undefined {
    const live = this.#streams.get(info.name);
    if (live?.row?.id !== id || seq >= live.row.info.tail) return undefined;
    const { batches } = live;
    const next = firstIndex(batches, ({ firstSeq }) => firstSeq > seq);
    return next === 0 ? undefined : batches.slice(next - 1, next - 1 + batchesPerRead);
  }

  /** The row is durable now; undefined: the stream is gone. `batch` gives what was appended to it. */
  update(name: string, row: StreamRow | undefined, batch?: () => StoredBatch): void {
    const live = this.#streams.get(name);
    if (live === undefined) return;
    if (row === undefined || row.id !== live.row?.id) this.#forget(live);
    live.row = row;
    if (batch !== undefined) this.#add(live, batch());
  }

  /** Calls those who watch the stream. */
  wake(name: string): void {
    this.#watchers.wake(name);
  }

  #add(live: LiveStream, batch: StoredBatch): void {
    live.batches.push(batch);
    // Half of them at once, so that the array is not moved for each batch.
    const gone = live.batches.length > maxBatches ? live.batches.splice(0, maxBatches / 2) : [];
    const bytes = costOf([batch]) - costOf(gone);
    live.bytes += bytes;
    this.#bytes += bytes;
    if (this.#bytes <= maxBytes) return;
    for (const each of this.#streams.values()) {
      this.#forget(each);
      if (this.#bytes <= maxBytes) break;
    }
  }

  #forget(live: LiveStream | undefined): void {
    if (live === undefined) return;
    this.#bytes -= live.bytes;
    live.batches = [];
    live.bytes = 0;
  }
}

function costOf(batches: readonly StoredBatch[]): number {
  let bytes = batches.length * batchOverhead;
  for (const { records } of batches) bytes += recordsSize(records);
  return bytes;
}
