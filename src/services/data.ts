import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { Duration } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { ExchangeResponseSchema, ReadResponseSchema } from "../../gen/data/v1/data_pb.ts";
import type {
  AppendRequest,
  DataService,
  ExchangeRequest_Read,
  ReadRequest,
  ReadResponse,
} from "../../gen/data/v1/data_pb.ts";
import { merge } from "../async/merge.ts";
import { onAbort, reasonOf } from "../async/signals.ts";
import { principalKey } from "../auth/principal.ts";
import { requireScope } from "../auth/scopes.ts";
import { DomainError, isDomainError } from "../errors.ts";
import { callKey } from "../runtime/call.ts";
import { requireUid } from "../store/store.ts";
import type { AppendInput, Appended, Store } from "../store/store.ts";
import { AppendSession } from "./append-session.ts";
import { callEndOf } from "./call-end.ts";
import {
  fromInfo,
  toExpectedUid,
  toNumber,
  toOptionalNumber,
  toProducerId,
  toRecords,
  toRetention,
  toRetentionChange,
  toTimeMs,
} from "./conversions.ts";
import { acks, durabilityOf, opened, startAppends, takeOpen } from "./data-append.ts";
import { Reading } from "./follow.ts";
import type { FollowOptions, Start } from "./follow.ts";
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
  const readWording = new ReadWording<ReadResponse>(
    (message) => create(ReadResponseSchema, { message }),
    ({ message }, streamUid) => create(ReadResponseSchema, { message, streamUid }),
  );
  // Of an Exchange, `opened` has told the uid.
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

  async function appendOne(request: AppendRequest, context: HandlerContext): Promise<Appended> {
    authorize(context, "write", request.stream);
    const input = toInput(request);
    return store.append(sessionOptions(request), request.seal ? { ...input, seal: {} } : input);
  }

  function toInput({ stream, records, producerSeq }: AppendRequest): AppendInput {
    const number = toOptionalNumber(producerSeq, "producer_seq");
    return { records: toRecords(stream, records, limits), ...(number === undefined ? {} : { producerSeq: number }) };
  }

  /** Appends and seals with a checksum, as the last batch of an Exchange does. */
  async function appendChecked(request: AppendRequest, context: HandlerContext): Promise<Appended> {
    authorize(context, "write", request.stream);
    if (request.createIfMissing && request.expectedUid === "" && (await isMissing(request.stream))) {
      return appendWhole(request);
    }
    const session = await openSession(request, context);
    try {
      const { stored } = await session.append(request);
      return { ...(await stored), uid: session.appender.uid };
    } finally {
      session.close();
    }
  }

  async function isMissing(stream: string): Promise<boolean> {
    try {
      await store.get(stream);
      return false;
    } catch (error) {
      if (isDomainError(error, "stream-not-found")) return true;
      throw error;
    }
  }

  /** Makes a stream of one batch, or none if the checksum is wrong. */
  async function appendWhole(request: AppendRequest): Promise<Appended> {
    const { stream, sha256 } = request;
    const input = toInput(request);
    const hash = createHash("sha256");
    for (const { data } of input.records) hash.update(data);
    const actual = hash.digest();
    if (!actual.equals(sha256)) {
      throw new DomainError({ kind: "checksum-mismatch", stream, firstSeq: 0, expected: sha256, actual });
    }
    return store.append(sessionOptions(request), {
      ...input,
      seal: { checksum: { sha256, firstSeq: 0 }, expectedSeq: 0 },
    });
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
    async createStream({ name, retention, metadata }, context) {
      authorize(context, "write", name);
      const about = Object.keys(metadata).length > 0 ? metadata : undefined;
      return { stream: fromInfo(await store.create(name, toRetention(retention), about)) };
    },

    async updateStream({ name, retention, expectedUid }, context) {
      authorize(context, "write", name);
      const options = { expectedUid: toExpectedUid(expectedUid) };
      return { stream: fromInfo(await store.update(name, toRetentionChange(retention), options)) };
    },

    async getStream({ name }, context) {
      authorize(context, "read", name);
      return { stream: fromInfo(await store.get(name)) };
    },

    listStreams: (request, context) => listVisible(store, request, context.values.get(principalKey), context.signal),

    async deleteStream({ name, expectedUid }, context) {
      authorize(context, "write", name);
      await store.delete(name, { expectedUid: toExpectedUid(expectedUid) });
      return {};
    },

    async trimStream({ name, beforeSeq, expectedUid }, context) {
      authorize(context, "write", name);
      const options = { signal: context.signal, expectedUid: toExpectedUid(expectedUid) };
      return { stream: fromInfo(await store.trim(name, toNumber(beforeSeq, "before_seq"), options)) };
    },

    async sealStream({ name, expectedSeq, sha256, expectedUid }, context) {
      authorize(context, "write", name);
      const seal = {
        name,
        expectedSeq: toOptionalNumber(expectedSeq, "expected_seq"),
        sha256,
        expectedUid: toExpectedUid(expectedUid),
      };
      return { stream: fromInfo(await sealStored(store, seal, limits.readChunkBytes, context.signal)) };
    },

    async claimProducer({ stream, producerId, createIfMissing, expectedUid }, context) {
      authorize(context, "write", stream);
      const claim = { stream, producerId, createIfMissing, expectedUid: toExpectedUid(expectedUid) };
      const { epoch, uid } = await store.claimProducer(claim);
      return { epoch: BigInt(epoch), streamUid: uid };
    },

    async append(request, context) {
      const { firstSeq, nextSeq, duplicate, uid } = await (request.sha256.byteLength > 0
        ? appendChecked(request, context)
        : appendOne(request, context));
      return { firstSeq: BigInt(firstSeq), nextSeq: BigInt(nextSeq), duplicate, durability, streamUid: uid };
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
            nextSeq = result.nextSeq;
            records += batch.records;
            bytes += batch.bytes;
          }
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
        streamUid: session.appender.uid,
      };
    },

    read(request, context) {
      authorize(context, "read", request.stream);
      const expectedUid = toExpectedUid(request.expectedUid);
      const from = (): Promise<Start> => startOf(store, request.stream, request.from, expectedUid);
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
          const from = (): Promise<Start> => startOf(store, stream, read.from, session.appender.uid);
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
  expectedUid: string;
  producer?: Parameters<typeof toProducerId>[0];
  expectedSeq?: bigint | undefined;
}) {
  const producer = toProducerId(open.producer);
  const expectedSeq = toOptionalNumber(open.expectedSeq, "expected_seq");
  return {
    stream: open.stream,
    createIfMissing: open.createIfMissing,
    expectedUid: toExpectedUid(open.expectedUid),
    ...(producer === undefined ? {} : { producer }),
    ...(expectedSeq === undefined ? {} : { expectedSeq }),
  };
}

async function startOf(
  store: Store,
  stream: string,
  from: ReadRequest["from"],
  expectedUid: string | undefined,
): Promise<Start> {
  if (from.case === "seq") return { seq: toNumber(from.value, "seq"), expectedUid };
  const { head, tail, uid } = await store.get(stream);
  requireUid({ name: stream, uid }, expectedUid);
  switch (from.case) {
    case "time":
      return { seq: await store.seqAtTime(stream, toTimeMs(from.value)), expectedUid: uid };
    case "tailOffset":
      return { seq: Math.max(head, tail - toNumber(from.value, "tail_offset")), expectedUid: uid };
    case undefined:
      return { seq: head, expectedUid: uid };
  }
}

function heartbeatOf(interval: Duration | undefined, limits: DataLimits): number {
  return interval === undefined ? limits.heartbeatInterval : durationMs(interval);
}

function unlessZero(value: bigint, field: string): number {
  return value === 0n ? Infinity : toNumber(value, field);
}
