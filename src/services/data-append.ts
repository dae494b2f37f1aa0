import { create } from "@bufbuild/protobuf";
import {
  Durability,
  ExchangeResponseSchema,
  ExchangeResponse_AckSchema,
  ExchangeResponse_OpenedSchema,
} from "../../gen/data/v1/data_pb.ts";
import type {
  AppendBatch,
  ExchangeRequest,
  ExchangeRequest_Open,
  ExchangeResponse,
  UploadRequest,
  UploadRequest_Open,
} from "../../gen/data/v1/data_pb.ts";
import { BoundedQueue } from "../async/queue.ts";
import { DomainError } from "../errors.ts";
import type { AppendResult, Store } from "../store/store.ts";
import type { AppendSession } from "./append-session.ts";

/** Appends of one call that wait for their ack to be taken. Beyond it the server stops reading from the call. */
const maxPendingAcks = 1024;

/** An append that has been handed to the store. It may wait for long until its ack is taken, and so does not keep the records. */
export interface PendingAppend {
  readonly batch: {
    readonly records: number;
    /** Of the records' data. */
    readonly bytes: number;
    /** With the checksum that the client has given, or an empty one. */
    readonly seal: { readonly sha256: Uint8Array } | undefined;
  };
  readonly stored: Promise<AppendResult>;
}

type Request = UploadRequest | ExchangeRequest;
type OpenOf<R> = R extends ExchangeRequest ? ExchangeRequest_Open : UploadRequest_Open;

export function durabilityOf(store: Store): Durability {
  return store.durability === "disk" ? Durability.DISK : Durability.MEMORY;
}

/** Takes the first message, which must be `open`. */
export async function takeOpen<R extends Request>(requests: AsyncIterator<R>): Promise<OpenOf<R>> {
  const first = await requests.next();
  if (first.done === true || first.value.message.case !== "open") {
    throw new DomainError({ kind: "invalid-argument", detail: "the first message of the call must be `open`" });
  }
  return first.value.message.value as OpenOf<R>;
}

/**
 * Hands each append to the store as it arrives, without waiting for the one
 * before. What comes out is in their order; a request that is wrong fails it
 * after the appends before.
 */
export function startAppends(requests: AsyncIterator<Request>, session: AppendSession): BoundedQueue<PendingAppend> {
  const appends = new BoundedQueue<PendingAppend>(maxPendingAcks);
  const run = async (): Promise<void> => {
    for (;;) {
      const result = await requests.next();
      if (result.done === true) break;
      const { message } = result.value;
      if (message.case !== "append") {
        throw new DomainError({ kind: "invalid-argument", detail: "every message after `open` must be `append`" });
      }
      const { stored } = await session.append(message.value);
      await appends.push({ batch: summaryOf(message.value), stored });
    }
    appends.end();
  };
  run().catch((error: unknown) => {
    appends.fail(error instanceof Error ? error : new Error("the requests failed", { cause: error }));
  });
  return appends;
}

function summaryOf({ records, seal, sha256 }: AppendBatch): PendingAppend["batch"] {
  return {
    records: records.length,
    bytes: records.reduce((sum, { data }) => sum + data.byteLength, 0),
    seal: seal ? { sha256: new Uint8Array(sha256) } : undefined,
  };
}

/** The answers to the appends, in their order, each once its batch is durable. */
export async function* acks(
  appends: BoundedQueue<PendingAppend>,
  durability: Durability,
): AsyncGenerator<ExchangeResponse, void, undefined> {
  for await (const { stored } of appends) {
    const { firstSeq, nextSeq, duplicate } = await stored;
    const value = create(ExchangeResponse_AckSchema, {
      firstSeq: BigInt(firstSeq),
      nextSeq: BigInt(nextSeq),
      duplicate,
      durability,
    });
    yield create(ExchangeResponseSchema, { message: { case: "ack", value } });
  }
}

export function opened({ appender }: AppendSession): ExchangeResponse {
  const value = create(ExchangeResponse_OpenedSchema, {
    tail: BigInt(appender.tail),
    streamUid: appender.uid,
    ...(appender.nextProducerSeq === undefined ? {} : { nextProducerSeq: BigInt(appender.nextProducerSeq) }),
  });
  return create(ExchangeResponseSchema, { message: { case: "opened", value } });
}
