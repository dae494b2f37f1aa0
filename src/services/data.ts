import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { Duration } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { ExchangeResponseSchema, ReadResponseSchema } from "../../gen/data/v1/data_pb.ts";
import type { AppendRequest, DataService, ExchangeRequest_Read, ReadRequest } from "../../gen/data/v1/data_pb.ts";
import { merge } from "../async/merge.ts";
import { onAbort, reasonOf } from "../async/signals.ts";
import { principalKey } from "../auth/principal.ts";
import { requireScope } from "../auth/scopes.ts";
import { callKey } from "../runtime/call.ts";
import type { AppendResult, Store } from "../store/store.ts";
import { AppendSession } from "./append-session.ts";
import { callEndOf } from "./call-end.ts";
import { fromInfo, toNumber, toOptionalNumber, toProducerId, toRecords, toRetention, toTimeMs } from "./conversions.ts";
import { acks, durabilityOf, opened, startAppends, takeOpen } from "./data-append.ts";
import { Reading } from "./follow.ts";
import type { FollowOptions } from "./follow.ts";
import { Followers } from "./followers.ts";
import type { DataLimits } from "./limits.ts";
import { listVisible } from "./list-streams.ts";
import { ReadWording } from "./read-wording.ts";
import { sealStored } from "./seal.ts";

export interface DataServiceOptions {
  readonly store: Store;
  readonly limits: DataLimits;
  /** Aborted, with an RPC error, when the server drains: following reads end with it. */
  readonly drainSignal: AbortSignal;
}

/** data.v1.DataService on a store. */
export function createDataService({ store, limits, drainSignal }: DataServiceOptions): ServiceImpl<typeof DataService> {
  const durability = durabilityOf(store);
  const readWording = new ReadWording((message) => create(ReadResponseSchema, { message }));
  const exchangeWording = new ReadWording((message) => create(ExchangeResponseSchema, { message }));
  const followers = new Followers();
  for (const signal of [drainSignal, store.broken]) {
    onAbort(signal, (reason) => {
      followers.end(reason);
    });
  }

  function authorize(context: HandlerContext, access: "read" | "write", stream: string): void {
    requireScope(context.values.get(principalKey), { kind: "data", access, stream });
  }

  function openSession(open: Parameters<typeof sessionOptions>[0], context: HandlerContext): Promise<AppendSession> {
    authorize(context, "write", open.stream);
    const memory = context.values.get(callKey)?.memory;
    return AppendSession.open(store, sessionOptions(open), limits, context.signal, memory);
  }

  async function appendOne(request: AppendRequest, context: HandlerContext): Promise<AppendResult> {
    authorize(context, "write", request.stream);
    const records = toRecords(request.stream, request.records, limits);
    const producerSeq = toOptionalNumber(request.producerSeq, "producer_seq");
    const appender = await store.openAppender(sessionOptions(request));
    const stored = appender.append({ records, ...(producerSeq === undefined ? {} : { producerSeq }) });
    appender.close();
    return stored;
  }

  /** Appends and seals as the last batch of an Exchange does. */
  async function appendLast(request: AppendRequest, context: HandlerContext): Promise<AppendResult> {
    const session = await openSession(request, context);
    try {
      return await (
        await session.append(request)
      ).stored;
    } finally {
      session.close();
    }
  }

  function followOptions(
    stream: string,
    request: ReadRequest | ExchangeRequest_Read,
    context: HandlerContext,
  ): FollowOptions {
    return {
      stream,
      follow: request.follow,
      maxRecords: "maxRecords" in request ? unlessZero(request.maxRecords, "max_records") : Infinity,
      maxBytes: "maxBytes" in request ? unlessZero(request.maxBytes, "max_bytes") : Infinity,
      chunkBytes: limits.readChunkBytes,
      heartbeatMs: heartbeatOf(request.heartbeatInterval, limits),
      call: callEndOf(context),
      followers,
    };
  }

  return {
    async createStream({ name, retention }, context) {
      authorize(context, "write", name);
      return { stream: fromInfo(await store.create(name, toRetention(retention))) };
    },

    async getStream({ name }, context) {
      authorize(context, "read", name);
      return { stream: fromInfo(await store.get(name)) };
    },

    listStreams: (request, context) => listVisible(store, request, context.values.get(principalKey), context.signal),

    async deleteStream({ name }, context) {
      authorize(context, "write", name);
      await store.delete(name);
      return {};
    },

    async trimStream({ name, beforeSeq }, context) {
      authorize(context, "write", name);
      return { stream: fromInfo(await store.trim(name, toNumber(beforeSeq, "before_seq"), context.signal)) };
    },

    async sealStream({ name, expectedSeq, sha256 }, context) {
      authorize(context, "write", name);
      const expected = toOptionalNumber(expectedSeq, "expected_seq");
      const info = await sealStored(store, name, expected, sha256, limits.readChunkBytes, context.signal);
      return { stream: fromInfo(info) };
    },

    async claimProducer({ stream, producerId, createIfMissing }, context) {
      authorize(context, "write", stream);
      return { epoch: BigInt(await store.claimProducer({ stream, producerId, createIfMissing })) };
    },

    async append(request, context) {
      const { firstSeq, nextSeq, duplicate } = await (request.seal
        ? appendLast(request, context)
        : appendOne(request, context));
      return { firstSeq: BigInt(firstSeq), nextSeq: BigInt(nextSeq), duplicate, durability };
    },

    async upload(requests, context) {
      const messages = requests[Symbol.asyncIterator]();
      const session = await openSession(await takeOpen(messages), context);
      let firstSeq: number | undefined;
      let nextSeq = session.appender.tail;
      let records = 0;
      let bytes = 0;
      let duplicateBatches = 0;
      let seal: { sha256: Uint8Array } | undefined;
      try {
        for await (const { batch, stored } of startAppends(messages, session)) {
          const result = await stored;
          if (result.duplicate) {
            duplicateBatches++;
          } else {
            firstSeq ??= result.firstSeq;
            records += batch.records;
            bytes += batch.bytes;
          }
          nextSeq = result.nextSeq;
          seal = batch.seal;
        }
      } finally {
        session.close();
      }
      return {
        firstSeq: BigInt(firstSeq ?? nextSeq),
        nextSeq: BigInt(nextSeq),
        records: BigInt(records),
        bytes: BigInt(bytes),
        duplicateBatches: BigInt(duplicateBatches),
        sha256: seal?.sha256 ?? new Uint8Array(),
        sealed: seal !== undefined,
        durability,
      };
    },

    read(request, context) {
      authorize(context, "read", request.stream);
      const from = (): Promise<number> => startOf(store, request.stream, request.from);
      return new Reading(store, readWording, from, followOptions(request.stream, request, context));
    },

    async *exchange(requests, context) {
      const messages = requests[Symbol.asyncIterator]();
      const open = await takeOpen(messages);
      if (open.read !== undefined) authorize(context, "read", open.stream);
      const session = await openSession(open, context);
      let stop = (): void => undefined;
      try {
        yield opened(session);
        const appends = startAppends(messages, session);
        // What is in flight is still acked; then the client is to go on elsewhere.
        stop = onAbort(drainSignal, (reason) => {
          appends.fail(reason);
        });
        const answers = acks(appends, durability);
        if (open.read === undefined) {
          yield* answers;
        } else {
          const { read, stream } = open;
          const from = (): Promise<number> => startOf(store, stream, read.from);
          const reads = new Reading(store, exchangeWording, from, followOptions(stream, read, context));
          yield* merge(answers, quietly(reads, drainSignal));
        }
      } finally {
        stop();
        session.close();
      }
    },
  };
}

/** The read of an Exchange. At a drain it ends quietly: the appends' side tells, after its last ack. */
async function* quietly<T>(reads: AsyncIterable<T>, drainSignal: AbortSignal): AsyncGenerator<T, void, undefined> {
  try {
    yield* reads;
  } catch (error) {
    if (drainSignal.aborted && error === reasonOf(drainSignal)) return;
    throw error;
  }
}

function sessionOptions(open: {
  stream: string;
  createIfMissing: boolean;
  producer?: Parameters<typeof toProducerId>[0];
  expectedSeq?: bigint | undefined;
}) {
  const producer = toProducerId(open.producer);
  const expectedSeq = toOptionalNumber(open.expectedSeq, "expected_seq");
  return {
    stream: open.stream,
    createIfMissing: open.createIfMissing,
    ...(producer === undefined ? {} : { producer }),
    ...(expectedSeq === undefined ? {} : { expectedSeq }),
  };
}

async function startOf(store: Store, stream: string, from: ReadRequest["from"]): Promise<number> {
  switch (from.case) {
    case "seq":
      return toNumber(from.value, "seq");
    case "time":
      return store.seqAtTime(stream, toTimeMs(from.value));
    case "tailOffset": {
      const { head, tail } = await store.get(stream);
      return Math.max(head, tail - toNumber(from.value, "tail_offset"));
    }
    case undefined:
      return (await store.get(stream)).head;
  }
}

function heartbeatOf(interval: Duration | undefined, limits: DataLimits): number {
  return interval === undefined ? limits.heartbeatInterval : durationMs(interval);
}

function unlessZero(value: bigint, field: string): number {
  return value === 0n ? Infinity : toNumber(value, field);
}
