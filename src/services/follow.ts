import type { Store } from "../store/store.ts";
import type { ReadWording } from "./read-wording.ts";
import { TailWait } from "./tail-wait.ts";
import type { CallEnd, Followers } from "./tail-wait.ts";

export interface FollowOptions {
  readonly stream: string;
  /** Finds the first position. */
  readonly from: () => number | Promise<number>;
  readonly follow: boolean;
  /** Infinity for no limit. */
  readonly maxRecords: number;
  /** Infinity for no limit. */
  readonly maxBytes: number;
  /** Bytes of one message. */
  readonly chunkBytes: number;
  /** Milliseconds of silence before a heartbeat. */
  readonly heartbeatMs: number;
  readonly call: CallEnd;
  /** A drain ends those who follow. */
  readonly followers: Followers;
}

/** Records that one message holds at most, whatever their size. */
const chunkRecords = 10_000;

/**
 * Reads a stream from a position on: what is stored, then, with `follow`, what
 * comes. Each step reads from the store what the next message needs, so that a
 * reader that does not keep up holds one message, and never a backlog.
 */
export async function* readMessages<T>(
  store: Store,
  wording: ReadWording<T>,
  { stream, from, follow, maxRecords, maxBytes, chunkBytes, heartbeatMs, call, followers }: FollowOptions,
): AsyncGenerator<T, void, undefined> {
  const fromSeq = await from();
  let seq = fromSeq;
  let records = maxRecords;
  let bytes = maxBytes;
  let behind = true;
  let generation: number | undefined;
  let wait: TailWait | undefined;
  try {
    while (records > 0 && bytes > 0) {
      const result = await store.read(stream, seq, {
        maxRecords: Math.min(records, chunkRecords),
        maxBytes: Math.min(bytes, chunkBytes),
        ...(generation === undefined ? {} : { generation }),
      });
      generation = result.generation;
      for (const batch of result.batches) {
        const { size, message } = wording.batch(batch);
        // `max_bytes` ends before it would be exceeded, except that the first record always comes.
        if (size > bytes && seq > fromSeq) return;
        seq = batch.firstSeq + batch.records.length;
        records -= batch.records.length;
        bytes -= size;
        yield message;
      }
      if (result.batches.length > 0) {
        behind = true;
        continue;
      }
      if (result.info.sealed) {
        yield wording.sealed(result.info);
        return;
      }
      if (!follow) return;
      if (wait === undefined) {
        wait = new TailWait(store, stream, followers, call, heartbeatMs);
        continue;
      }
      if (behind) {
        behind = false;
        yield wording.caughtUp(seq);
      }
      if (!(await wait.next())) yield wording.heartbeat(seq);
    }
  } finally {
    wait?.close();
  }
}
