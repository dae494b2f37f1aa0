import { create } from "@bufbuild/protobuf";
import { CaughtUpSchema, HeartbeatSchema } from "../../gen/data/v1/data_pb.ts";
import type { CaughtUp, Heartbeat, RecordBatch, Sealed } from "../../gen/data/v1/data_pb.ts";
import { linkSignals, reasonOf } from "../async/signals.ts";
import type { Store } from "../store/store.ts";
import { fromBatch, sealedFrom, sizeOf } from "./conversions.ts";

/** What a read tells, in the words of ReadResponse and ExchangeResponse. */
export type ReadEvent =
  | { readonly case: "batch"; readonly value: RecordBatch }
  | { readonly case: "caughtUp"; readonly value: CaughtUp }
  | { readonly case: "heartbeat"; readonly value: Heartbeat }
  | { readonly case: "sealed"; readonly value: Sealed };

export interface FollowOptions {
  readonly stream: string;
  readonly fromSeq: number;
  readonly follow: boolean;
  /** Infinity for no limit. */
  readonly maxRecords: number;
  /** Infinity for no limit. */
  readonly maxBytes: number;
  /** Bytes of one message. */
  readonly chunkBytes: number;
  /** Milliseconds of silence before a heartbeat. */
  readonly heartbeatMs: number;
  /** The call's end. */
  readonly signal: AbortSignal;
  /** Ends a following read, with its reason. */
  readonly drainSignal: AbortSignal;
}

/** Records that one message holds at most, whatever their size. */
const chunkRecords = 10_000;

/**
 * Reads a stream from a position on: what is stored, then, with `follow`, what
 * comes. Each step reads from the store what the next message needs, so that a
 * reader that does not keep up holds one message, and never a backlog.
 */
export async function* readEvents(store: Store, options: FollowOptions): AsyncGenerator<ReadEvent, void, undefined> {
  const { stream, follow, signal, drainSignal } = options;
  let seq = options.fromSeq;
  let records = options.maxRecords;
  let bytes = options.maxBytes;
  let behind = true;
  let generation: number | undefined;
  while (records > 0 && bytes > 0) {
    if (signal.aborted) throw reasonOf(signal);
    const result = await store.read(stream, seq, {
      maxRecords: Math.min(records, chunkRecords),
      maxBytes: Math.min(bytes, options.chunkBytes),
      ...(generation === undefined ? {} : { generation }),
    });
    generation = result.generation;
    for (const batch of result.batches) {
      const size = sizeOf(batch.records);
      // `max_bytes` ends before it would be exceeded, except that the first record always comes.
      if (size > bytes && seq > options.fromSeq) return;
      seq = batch.firstSeq + batch.records.length;
      records -= batch.records.length;
      bytes -= size;
      yield { case: "batch", value: fromBatch(batch) };
    }
    if (result.batches.length > 0) {
      behind = true;
      continue;
    }
    if (result.info.sealed) {
      yield { case: "sealed", value: sealedFrom(result.info) };
      return;
    }
    if (!follow) return;
    if (drainSignal.aborted) throw reasonOf(drainSignal);
    if (behind) {
      behind = false;
      yield { case: "caughtUp", value: create(CaughtUpSchema, { tail: BigInt(seq) }) };
    }
    if (!(await changed(store, stream, seq, options))) {
      yield { case: "heartbeat", value: create(HeartbeatSchema, { tail: BigInt(seq) }) };
    }
  }
}

/** Waits until there is something to read; false when it is time for a heartbeat. Ends with either signal. */
async function changed(store: Store, stream: string, tail: number, options: FollowOptions): Promise<boolean> {
  const silence = Symbol("silence");
  const wait = linkSignals(options.signal, options.drainSignal);
  const timer = setTimeout(() => {
    wait.abort(silence);
  }, options.heartbeatMs);
  try {
    await store.waitForChange(stream, tail, wait.signal);
    return true;
  } catch (error) {
    if (wait.signal.aborted && wait.signal.reason === silence) return false;
    throw error;
  } finally {
    clearTimeout(timer);
    wait.cleanup();
  }
}
