import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import { UploadRequestSchema } from "../../gen/data/v1/data_pb.ts";
import type { DataService, Stream, UploadRequest } from "../../gen/data/v1/data_pb.ts";
import { reasonOf } from "../async/signals.ts";
import { toMessages } from "./records.ts";
import type { RecordInit } from "./records.ts";
import { Backoff } from "./retry.ts";
import type { OnRetry, RetryOptions } from "./retry.ts";

export interface UploadOptions {
  readonly createIfMissing?: boolean;
  /** Only to the stream with this uid. Default: the one that is found first. */
  readonly expectedUid?: string;
  /**
   * The same for every attempt to upload the same thing, also from another
   * process: then a record that is sent twice is stored once. Default: a random one.
   */
  readonly producerId?: string;
  /** Seals the stream behind the last record, with the SHA-256 of all data if it is given. */
  readonly seal?: boolean | { readonly sha256: () => Uint8Array | Promise<Uint8Array> };
  readonly signal?: AbortSignal;
  readonly onRetry?: OnRetry;
  readonly retry?: Partial<RetryOptions>;
}

/** What is stored when an upload is done. */
export interface UploadResult {
  readonly tail: bigint;
  readonly sealed: boolean;
  /** The SHA-256 that the seal was checked against, or empty. */
  readonly sha256: Uint8Array;
}

/**
 * Uploads records to a stream that holds nothing else, by client streaming.
 * `records` is asked for the records from a seq on: from the tail at first, and
 * again from the tail after a broken connection.
 */
export async function uploadRecords(
  rpc: Client<typeof DataService>,
  name: string,
  records: (fromSeq: bigint) => AsyncIterable<RecordInit>,
  options: UploadOptions,
): Promise<UploadResult> {
  const { signal, seal = false } = options;
  const producer = { id: options.producerId ?? crypto.randomUUID(), epoch: 0n };
  const backoff = new Backoff(options.retry, options.onRetry);
  let reached = -1n;
  // Of the stream, once it is known: what goes on goes on in the same one.
  let { expectedUid = "" } = options;
  let attempted = false;
  for (;;) {
    try {
      const info = await find(rpc, name, signal);
      expectedUid ||= info?.uid ?? "";
      // After a break: the answer may have been lost behind the seal. Of another stream the server tells.
      const mayBeDone = attempted && seal !== false && info?.uid === expectedUid;
      if (mayBeDone && info.sealed) return await sealedResult(info, options);
      const tail = info?.tail ?? 0n;
      if (tail > reached) backoff.reset();
      reached = tail;
      // A failure of the source is the caller's: the call must not be tried again for it.
      let failure: { error: unknown } | undefined;
      const failed = (error: unknown): void => {
        failure = { error };
      };
      const requests = requestsFrom(
        { stream: name, expectedUid, producer, expectedSeq: tail },
        guard(records(tail), failed),
        options,
        failed,
      );
      attempted = true;
      try {
        const response = await rpc.upload(requests, signal === undefined ? {} : { signal });
        return { tail: response.nextSeq, sealed: response.sealed, sha256: response.sha256 };
      } catch (error) {
        throw failure === undefined ? error : new SourceError(failure.error);
      }
    } catch (error) {
      if (signal?.aborted === true) throw reasonOf(signal);
      if (error instanceof SourceError) throw error.cause;
      await backoff.wait(error, signal);
    }
  }
}

class SourceError extends Error {
  constructor(cause: unknown) {
    super("the source of an upload failed", { cause });
  }
}

async function* requestsFrom(
  open: { stream: string; expectedUid: string; producer: { id: string; epoch: bigint }; expectedSeq: bigint },
  records: AsyncIterable<RecordInit>,
  options: UploadOptions,
  failed: (error: unknown) => void,
): AsyncGenerator<UploadRequest, void, undefined> {
  const { createIfMissing = false, seal = false } = options;
  // With the expected seq two uploads of different things at once do not end up in each other: the second one fails.
  yield create(UploadRequestSchema, {
    message: { case: "open", value: { ...open, createIfMissing } },
  });
  // One record a batch, so that its number among the producer's batches is its seq.
  let producerSeq = open.expectedSeq;
  for await (const record of records) {
    yield create(UploadRequestSchema, {
      message: { case: "append", value: { records: toMessages([record]), producerSeq: producerSeq++ } },
    });
  }
  if (seal === false) return;
  let sha256 = new Uint8Array();
  try {
    if (seal !== true) sha256 = (await seal.sha256()) as Uint8Array<ArrayBuffer>;
  } catch (error) {
    failed(error);
    throw error;
  }
  yield create(UploadRequestSchema, { message: { case: "append", value: { producerSeq, seal: true, sha256 } } });
}

/** Tells failures of the source from those that the transport throws into its requests. */
async function* guard<T>(
  items: AsyncIterable<T>,
  failed: (error: unknown) => void,
): AsyncGenerator<T, void, undefined> {
  const it = items[Symbol.asyncIterator]();
  try {
    for (;;) {
      const result = await it.next().catch((error: unknown) => {
        failed(error);
        throw error;
      });
      if (result.done === true) return;
      yield result.value;
    }
  } finally {
    await it.return?.();
  }
}

async function find(
  rpc: Client<typeof DataService>,
  name: string,
  signal: AbortSignal | undefined,
): Promise<Stream | undefined> {
  try {
    return (await rpc.getStream({ name }, signal === undefined ? {} : { signal })).stream;
  } catch (error) {
    if (ConnectError.from(error).code === Code.NotFound) return undefined;
    throw error;
  }
}

async function sealedResult(info: Stream, { seal }: UploadOptions): Promise<UploadResult> {
  const result = { tail: info.tail, sealed: true, sha256: info.sha256 };
  if (typeof seal !== "object") return result;
  const expected = await seal.sha256();
  if (expected.length === info.sha256.length && expected.every((byte, i) => byte === info.sha256[i])) return result;
  throw new ConnectError(`stream "${info.name}" has been sealed with other data meanwhile`, Code.FailedPrecondition);
}
