import { create } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { RecordSchema } from "../../gen/data/v1/data_pb.ts";
import type { ReadRequest, Record as RecordMessage, RecordBatch } from "../../gen/data/v1/data_pb.ts";

/** A record to append. A text is sent as UTF-8. */
export interface RecordInit {
  readonly data: Uint8Array | string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A record as it was read. */
export interface ReadRecord {
  readonly seq: bigint;
  /** Of the stream; empty if the server is too old to tell it. */
  readonly uid: string;
  /** When the server stored it. */
  readonly time: Date;
  readonly headers: Readonly<Record<string, string>>;
  readonly data: Uint8Array;
}

/**
 * Where to begin to read: at a record, at a time, so many records before the
 * tail, at the oldest record kept, or at what comes next. A Checkpoint is a
 * record of one very stream.
 */
export type ReadFrom =
  | "head"
  | "tail"
  | { readonly seq: bigint | number; readonly uid?: string }
  | { readonly time: Date }
  | { readonly tailOffset: bigint | number };

const encoder = new TextEncoder();

export function toMessages(records: readonly RecordInit[]): RecordMessage[] {
  return records.map(({ data, headers = {} }) =>
    create(RecordSchema, {
      data: typeof data === "string" ? encoder.encode(data) : (data as Uint8Array<ArrayBuffer>),
      headers: { ...headers },
    }),
  );
}

/** What the records take in the server's count: data and headers, in bytes. */
export function sizeOfMessages(records: readonly RecordMessage[]): number {
  let size = 0;
  for (const { data, headers } of records) {
    size += data.byteLength;
    for (const [key, value] of Object.entries(headers)) size += key.length + value.length;
  }
  return size;
}

/** `uid` is that of the stream. */
export function* fromBatch(batch: RecordBatch, uid: string): Generator<ReadRecord> {
  const time = batch.time === undefined ? new Date(0) : timestampDate(batch.time);
  let seq = batch.firstSeq;
  for (const { headers, data } of batch.records) yield { seq: seq++, uid, time, headers, data };
}

export function toFrom(from: ReadFrom | undefined): ReadRequest["from"] {
  if (from === undefined || from === "head") return { case: undefined };
  if (from === "tail") return { case: "tailOffset", value: 0n };
  if ("seq" in from) return { case: "seq", value: BigInt(from.seq) };
  if ("time" in from) return { case: "time", value: timestampFromDate(from.time) };
  return { case: "tailOffset", value: BigInt(from.tailOffset) };
}

/** The uid of the one stream that the reader means; empty if it takes any. */
export function uidOf(from: ReadFrom | undefined): string {
  return (typeof from === "object" && "seq" in from ? from.uid : undefined) ?? "";
}
