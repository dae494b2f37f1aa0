import { create } from "@bufbuild/protobuf";
import { CaughtUpSchema, HeartbeatSchema } from "../../gen/data/v1/data_pb.ts";
import type { CaughtUp, Heartbeat, RecordBatch, Sealed } from "../../gen/data/v1/data_pb.ts";
import type { StoredBatch, StreamInfo } from "../store/store.ts";
import { recordsSize } from "../store/store.ts";
import { fromBatch, sealedFrom } from "./conversions.ts";

/** What a read tells, in the words of ReadResponse and ExchangeResponse. */
export type ReadEvent =
  | { readonly case: "batch"; readonly value: RecordBatch }
  | { readonly case: "caughtUp"; readonly value: CaughtUp }
  | { readonly case: "heartbeat"; readonly value: Heartbeat }
  | { readonly case: "sealed"; readonly value: Sealed };

/** A batch as a message. */
export interface BatchMessage<T> {
  /** Of its records, in bytes. */
  readonly size: number;
  readonly message: T;
}

/** Messages that are kept, and the size of their records together, in bytes. */
const maxKept = 1024;
const maxKeptBytes = 1024 * 1024;

/**
 * What a read tells, as the messages of an RPC. Many readers at one tail get the
 * same: each of the newest messages is made once.
 */
export class ReadWording<T> {
  readonly #toMessage: (event: ReadEvent) => T;
  /** The message as the first one of a call, which tells the stream's uid. Others may share it: it stays as it is. */
  readonly first: (message: T, uid: string) => T;
  readonly #kept = new Map<StoredBatch, BatchMessage<T>>();
  #keptBytes = 0;
  #caughtUp: { readonly tail: number; readonly message: T } | undefined;

  constructor(toMessage: (event: ReadEvent) => T, first: (message: T, uid: string) => T = (message) => message) {
    this.#toMessage = toMessage;
    this.first = first;
  }

  batch(batch: StoredBatch): BatchMessage<T> {
    const size = recordsSize(batch.records);
    return { size, message: this.#toMessage({ case: "batch", value: fromBatch(batch) }) };
  }

  /** The same for a batch that other readers are likely to ask for. */
  sharedBatch(batch: StoredBatch): BatchMessage<T> {
    const kept = this.#kept.get(batch);
    if (kept !== undefined) return kept;
    const made = this.batch(batch);
    this.#kept.set(batch, made);
    this.#keptBytes += made.size;
    for (const [oldest, { size }] of this.#kept) {
      if (this.#kept.size <= maxKept && this.#keptBytes <= maxKeptBytes) break;
      this.#kept.delete(oldest);
      this.#keptBytes -= size;
    }
    return made;
  }

  caughtUp(tail: number): T {
    if (this.#caughtUp?.tail !== tail) {
      const value = create(CaughtUpSchema, { tail: BigInt(tail) });
      this.#caughtUp = { tail, message: this.#toMessage({ case: "caughtUp", value }) };
    }
    return this.#caughtUp.message;
  }

  heartbeat(tail: number): T {
    return this.#toMessage({ case: "heartbeat", value: create(HeartbeatSchema, { tail: BigInt(tail) }) });
  }

  sealed(info: StreamInfo): T {
    return this.#toMessage({ case: "sealed", value: sealedFrom(info) });
  }
}
