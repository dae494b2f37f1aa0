import { create } from "@bufbuild/protobuf";
import { durationFromMs, durationMs, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { RecordBatchSchema, SealedSchema, StreamSchema } from "../../gen/data/v1/data_pb.ts";
import type {
  Producer,
  Record as RecordMessage,
  RecordBatch,
  Retention as RetentionMessage,
  Sealed,
  Stream,
  UpdateStreamRequest_RetentionChange,
} from "../../gen/data/v1/data_pb.ts";
import { DomainError } from "../errors.ts";
import type { DataLimits } from "./limits.ts";
import { recordsSize } from "../store/store.ts";
import type { ProducerId, Retention, RetentionChange, StoredBatch, StoredRecord, StreamInfo } from "../store/store.ts";

/** The longest Duration: 10,000 years (google/protobuf/duration.proto), in milliseconds. */
const maxDurationMs = 315_576_000_000_000;

/** A position or number of the wire as a number; beyond 2^53 - 1 there is nothing. */
export function toNumber(value: bigint, field: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new DomainError({ kind: "invalid-argument", detail: `${field} must be below 2^53, not ${value}` });
  }
  return Number(value);
}

export function toOptionalNumber(value: bigint | undefined, field: string): number | undefined {
  return value === undefined ? undefined : toNumber(value, field);
}

/** What the client expects a stream's uid to be; it checks nothing with the empty one. */
export function toExpectedUid(uid: string): string | undefined {
  return uid === "" ? undefined : uid;
}

export function toProducerId(producer: Producer | undefined): ProducerId | undefined {
  return producer && { id: producer.id, epoch: toNumber(producer.epoch, "producer.epoch") };
}

/** Checks a batch against the limits. The records are kept as they arrived. */
export function toRecords(
  stream: string,
  records: readonly RecordMessage[],
  limits: DataLimits,
): readonly StoredRecord[] {
  const { maxBatchRecords, maxBatchBytes } = limits;
  if (records.length > maxBatchRecords) {
    throw new DomainError({
      kind: "batch-too-large",
      stream,
      unit: "records",
      actual: records.length,
      limit: maxBatchRecords,
    });
  }
  const bytes = recordsSize(records);
  if (bytes > maxBatchBytes) {
    throw new DomainError({ kind: "batch-too-large", stream, unit: "bytes", actual: bytes, limit: maxBatchBytes });
  }
  return records;
}

export function toRetention(message: RetentionMessage | undefined): Retention {
  if (message === undefined) return {};
  const maxAgeMs = message.maxAge === undefined ? 0 : durationMs(message.maxAge);
  const maxBytes = toNumber(message.maxBytes, "retention.max_bytes");
  const maxRecords = toNumber(message.maxRecords, "retention.max_records");
  return {
    ...(maxAgeMs > 0 ? { maxAgeMs } : {}),
    ...(maxBytes > 0 ? { maxBytes } : {}),
    ...(maxRecords > 0 ? { maxRecords } : {}),
  };
}

/** An absent limit stays, and 0 takes it away. */
export function toRetentionChange(message: UpdateStreamRequest_RetentionChange | undefined): RetentionChange {
  if (message === undefined) return {};
  const { maxAge } = message;
  const maxBytes = toOptionalNumber(message.maxBytes, "retention.max_bytes");
  const maxRecords = toOptionalNumber(message.maxRecords, "retention.max_records");
  return {
    ...(maxAge === undefined ? {} : { maxAgeMs: durationMs(maxAge) }),
    ...(maxBytes === undefined ? {} : { maxBytes }),
    ...(maxRecords === undefined ? {} : { maxRecords }),
  };
}

export function fromInfo(info: StreamInfo): Stream {
  const { maxAgeMs, maxBytes, maxRecords } = info.retention;
  return create(StreamSchema, {
    name: info.name,
    uid: info.uid,
    head: BigInt(info.head),
    tail: BigInt(info.tail),
    bytes: BigInt(info.bytes),
    sealed: info.sealed,
    ...(info.checksum === undefined
      ? {}
      : { sha256: info.checksum.sha256, sha256FirstSeq: BigInt(info.checksum.firstSeq) }),
    createTime: timestampFromMs(info.createTimeMs),
    ...(info.appendTimeMs === undefined ? {} : { appendTime: timestampFromMs(info.appendTimeMs) }),
    retention: {
      // An earlier version stored what no Duration can say.
      ...(maxAgeMs === undefined ? {} : { maxAge: durationFromMs(Math.min(maxAgeMs, maxDurationMs)) }),
      maxBytes: BigInt(maxBytes ?? 0),
      maxRecords: BigInt(maxRecords ?? 0),
    },
    metadata: { ...info.metadata },
  });
}

export function fromBatch(batch: StoredBatch): RecordBatch {
  return create(RecordBatchSchema, {
    firstSeq: BigInt(batch.firstSeq),
    time: timestampFromMs(batch.timeMs),
    records: batch.records as RecordMessage[],
  });
}

export function sealedFrom(info: StreamInfo): Sealed {
  return create(SealedSchema, {
    tail: BigInt(info.tail),
    ...(info.checksum === undefined
      ? {}
      : { sha256: info.checksum.sha256, sha256FirstSeq: BigInt(info.checksum.firstSeq) }),
  });
}

/** Milliseconds of a timestamp that a client sent; fails on what no clock can show. */
export function toTimeMs(time: Parameters<typeof timestampMs>[0]): number {
  const ms = timestampMs(time);
  if (!Number.isSafeInteger(ms)) {
    throw new DomainError({ kind: "invalid-argument", detail: "time must be a valid timestamp" });
  }
  return ms;
}
