import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { CallOptions, Client, Transport } from "@connectrpc/connect";
import { DataService } from "../../gen/data/v1/data_pb.ts";
import type { AppendResponse, Stream } from "../../gen/data/v1/data_pb.ts";
import { createAppender } from "./appender.ts";
import type { Appender, AppenderOptions, FullDuplex } from "./appender.ts";
import { claimProducer } from "./claim-producer.ts";
import type { ClaimProducerOptions } from "./claim-producer.ts";
import { createStreamingClient } from "./streaming-client.ts";
import { openExchange } from "./exchange.ts";
import type { DataExchange, ExchangeOptions } from "./exchange.ts";
import { readRecords } from "./read.ts";
import type { ReadOptions } from "./read.ts";
import { toMessages } from "./records.ts";
import type { ReadRecord, RecordInit } from "./records.ts";
import type { RetryPolicy } from "./retry.ts";
import { uploadRecords } from "./upload.ts";
import type { UploadOptions, UploadResult } from "./upload.ts";

/** A stream as the server describes it. */
export type StreamInfo = Stream;

interface Cancellable {
  readonly signal?: AbortSignal;
}

/** For what is meant for one very stream, and not for another one that was made under its name since. */
interface Expectation {
  /** The uid of the stream; another one fails with STREAM_REPLACED. Default: any. */
  readonly expectedUid?: string;
}

/** Which records a stream keeps. An absent limit is no limit, and so is 0. */
export interface StreamRetention {
  /** Milliseconds. */
  readonly maxAgeMs?: number;
  readonly maxBytes?: number;
  readonly maxRecords?: number;
}

export interface CreateStreamOptions extends Cancellable {
  readonly retention?: StreamRetention;
  /** What to say about the stream, such as a `content-type`: at most 32 entries, with keys of lower case. */
  readonly metadata?: Readonly<Record<string, string>>;
}

export interface UpdateStreamOptions extends Cancellable, Expectation {
  /** Limits to change: an absent one stays, and 0 takes it away. */
  readonly retention?: StreamRetention;
}

export interface AppendOptions extends Cancellable, Expectation {
  readonly createIfMissing?: boolean;
  readonly expectedSeq?: bigint | number;
  /** Who appends, with the epoch that `claimProducer` has given. */
  readonly producer?: { readonly id: string; readonly epoch?: bigint };
  /** The number of the batch among those of this epoch, from 0. */
  readonly producerSeq?: bigint | number;
}

/** DataService for people: streams by name, reads that resume, appends that are stored exactly once. */
export interface DataClient {
  /** The generated stubs, on the same connection. */
  readonly rpc: Client<typeof DataService>;
  createStream(name: string, options?: CreateStreamOptions): Promise<StreamInfo>;
  getStream(name: string, options?: Cancellable): Promise<StreamInfo>;
  /** Changes which records a stream keeps. */
  updateStream(name: string, options: UpdateStreamOptions): Promise<StreamInfo>;
  /** Every stream that the token may read, in the order of the names. */
  listStreams(
    options?: Cancellable & { prefix?: string; pageSize?: number },
  ): AsyncGenerator<StreamInfo, void, undefined>;
  deleteStream(name: string, options?: Cancellable & Expectation): Promise<void>;
  /** Removes every record below the seq. */
  trimStream(name: string, beforeSeq: bigint | number, options?: Cancellable & Expectation): Promise<StreamInfo>;
  sealStream(
    name: string,
    options?: Cancellable & Expectation & { expectedSeq?: bigint | number; sha256?: Uint8Array },
  ): Promise<StreamInfo>;
  /** Claims a producer for `append`, and resolves with its epoch. Whoever appended under the id before is fenced. */
  claimProducer(name: string, producerId: string, options?: ClaimProducerOptions): Promise<bigint>;
  /** Stores one batch with one call. For many, `appender` is faster, and resends by itself. */
  append(name: string, records: readonly RecordInit[], options?: AppendOptions): Promise<AppendResponse>;
  /** Records from a position on; goes on by itself after a broken connection. `break` cancels it. */
  read(name: string, options?: ReadOptions): AsyncGenerator<ReadRecord, void, undefined>;
  /** Appends many batches, each stored exactly once. */
  appender(name: string, options?: AppenderOptions): Appender;
  /** Uploads records by client streaming, and goes on by itself after a broken connection. */
  upload(
    name: string,
    records: (fromSeq: bigint) => AsyncIterable<RecordInit>,
    options?: UploadOptions,
  ): Promise<UploadResult>;
  /** Appends and reads on one bidi call. Needs HTTP/2. */
  exchange(name: string, options?: ExchangeOptions): DataExchange;
}

export interface DataClientOptions {
  /** Whether requests and responses can flow at the same time: not on HTTP/1.1, and not over fetch. */
  readonly fullDuplex: FullDuplex;
  readonly retry?: Partial<RetryPolicy>;
}

export function createDataClient(transport: Transport, { fullDuplex, retry = {} }: DataClientOptions): DataClient {
  const rpc = createStreamingClient(DataService, transport);
  return {
    rpc,
    async createStream(name, { retention, metadata = {}, ...options } = {}) {
      const { maxAgeMs, maxBytes = 0, maxRecords = 0 } = retention ?? {};
      const request = {
        name,
        metadata: { ...metadata },
        retention: {
          ...(maxAgeMs === undefined ? {} : { maxAge: durationFromMs(maxAgeMs) }),
          maxBytes: BigInt(maxBytes),
          maxRecords: BigInt(maxRecords),
        },
      };
      return present((await rpc.createStream(request, callOptions(options))).stream);
    },
    async getStream(name, options) {
      return present((await rpc.getStream({ name }, callOptions(options))).stream);
    },
    async updateStream(name, { retention = {}, expectedUid = "", ...options }) {
      const { maxAgeMs, maxBytes, maxRecords } = retention;
      const request = {
        name,
        expectedUid,
        retention: {
          ...(maxAgeMs === undefined ? {} : { maxAge: durationFromMs(maxAgeMs) }),
          ...(maxBytes === undefined ? {} : { maxBytes: BigInt(maxBytes) }),
          ...(maxRecords === undefined ? {} : { maxRecords: BigInt(maxRecords) }),
        },
      };
      return present((await rpc.updateStream(request, callOptions(options))).stream);
    },
    async *listStreams({ prefix = "", pageSize = 0, ...options } = {}) {
      for (let pageToken = ""; ;) {
        const page = await rpc.listStreams({ prefix, pageSize, pageToken }, callOptions(options));
        yield* page.streams;
        pageToken = page.nextPageToken;
        if (pageToken === "") return;
      }
    },
    async deleteStream(name, { expectedUid = "", ...options } = {}) {
      await rpc.deleteStream({ name, expectedUid }, callOptions(options));
    },
    async trimStream(name, beforeSeq, { expectedUid = "", ...options } = {}) {
      const request = { name, beforeSeq: BigInt(beforeSeq), expectedUid };
      return present((await rpc.trimStream(request, callOptions(options))).stream);
    },
    async sealStream(name, { expectedSeq, sha256 = new Uint8Array(), expectedUid = "", ...options } = {}) {
      const request = {
        name,
        expectedUid,
        sha256: sha256 as Uint8Array<ArrayBuffer>,
        ...(expectedSeq === undefined ? {} : { expectedSeq: BigInt(expectedSeq) }),
      };
      return present((await rpc.sealStream(request, callOptions(options))).stream);
    },
    claimProducer: async (name, producerId, options) => (await claimProducer(rpc, name, producerId, options)).epoch,
    append(name, records, { createIfMissing = false, expectedUid = "", ...rest } = {}) {
      const { expectedSeq, producer, producerSeq, ...options } = rest;
      const request = {
        stream: name,
        expectedUid,
        records: toMessages(records),
        createIfMissing,
        ...(expectedSeq === undefined ? {} : { expectedSeq: BigInt(expectedSeq) }),
        ...(producer === undefined ? {} : { producer }),
        ...(producerSeq === undefined ? {} : { producerSeq: BigInt(producerSeq) }),
      };
      return rpc.append(request, callOptions(options));
    },
    read: (name, options = {}) => readRecords(rpc, name, { ...options, retry: { ...retry, ...options.retry } }),
    appender: (name, options = {}) =>
      createAppender(rpc, name, { ...options, retry: { ...retry, ...options.retry } }, fullDuplex),
    upload: (name, records, options = {}) =>
      uploadRecords(rpc, name, records, { ...options, retry: { ...retry, ...options.retry } }),
    exchange: (name, options = {}) => openExchange(rpc, name, options),
  };
}

function callOptions({ signal }: Cancellable = {}): CallOptions {
  return signal === undefined ? {} : { signal };
}

function present(stream: Stream | undefined): Stream {
  if (stream === undefined) throw new TypeError("the server's answer lacks the stream");
  return stream;
}
