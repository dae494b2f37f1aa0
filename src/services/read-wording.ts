import { create } from "@bufbuild/protobuf";
import { CaughtUpSchema, HeartbeatSchema } from "../../gen/data/v1/data_pb.ts";
import type { CaughtUp, Heartbeat, RecordBatch, Sealed } from "../../gen/data/v1/data_pb.ts";
import type { StoredBatch, StreamInfo } from "../store/store.ts";
import { fromBatch, sealedFrom, sizeOf } from "./conversions.ts";

/** What a read tells, in the words of ReadResponse and ExchangeResponse. */
export type ReadEvent =
  | { readonly case: "batch"; readonly value: RecordBatch }
  | { readonly case: "caughtUp"; readonly value: CaughtUp }
  | { readonly case: "heartbeat"; readonly value: Heartbeat }
  | { readonly case: "sealed"; readonly value: Sealed };

/** A batch as a message. */
export interface BatchMessage<T> {
  readonly batch: StoredBatch;
  /** Of its records, in bytes. */
  readonly size: number;
  readonly message: T;
}

/** Messages that are kept, and how large the records of one of them may be, in bytes. */
const maxKept = 16;
const maxKeptBytes = 64 * 1024;

/**
 * What a read tells, as the messages of an RPC. Many readers at one tail get the
 * same: each message is made once, as long as it is one of the newest.
 */
export class ReadWording<T> {
  readonly #toMessage: (event: ReadEvent) => T;
  readonly #kept: BatchMessage<T>[] = [];
  #oldest = 0;
  #caughtUp: { readonly tail: number; readonly message: T } | undefined;

  constructor(toMessage: (event: ReadEvent) => T) {
    this.#toMessage = toMessage;
  }

  batch(batch: StoredBatch): BatchMessage<T> {
    for (const kept of this.#kept) if (kept.batch === batch) return kept;
    const size = sizeOf(batch.records);
    const made = { batch, size, message: this.#toMessage({ case: "batch", value: fromBatch(batch) }) };
    if (size <= maxKeptBytes) {
      this.#kept[this.#oldest] = made;
      this.#oldest = (this.#oldest + 1) % maxKept;
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
