import { hash } from "node:crypto";
import { DomainError } from "../errors.ts";
import { recordsSize } from "./store.ts";
import { contentOf, encodeContent } from "./lmdb-codec.ts";
import type { AppendInput, AppenderOptions, ProducerId, SealChecksum, StoredRecord, StreamInfo } from "./store.ts";

/** Batches of a producer whose positions are remembered, so that a repeat is answered with them. */
export const producerWindow = 1024;

/**
 * Returns the epoch that a claim hands out, from 1 on. `claims` is the highest one claimed in the stream, also of
 * producers that are forgotten. Throws a DomainError if there is no higher one.
 */
export function nextEpoch(claims: number | undefined, state: ProducerState | undefined): number {
  const epoch = Math.max(claims ?? 0, state?.epoch ?? 0) + 1;
  if (epoch <= Number.MAX_SAFE_INTEGER) return epoch;
  const detail = "a producer of this stream has used the highest epoch there is: use another stream";
  throw new DomainError({ kind: "invalid-argument", detail });
}

/** Characters of a digest, of four bits each: two contents have the same by chance once in 2^64 times. */
const digestLength = 16;

/**
 * Returns a digest of the records of a batch, and of whether it seals the stream. `encoded` is the stored form, if the
 * caller has it. The order of headers does not count: clients in other languages may change it when they resend.
 */
export function digestOf({ records, seal: seals }: AppendInput, encoded?: Buffer): string {
  const ordered = !records.some(hasSeveralHeaders);
  const content =
    ordered && encoded !== undefined ? contentOf(encoded) : encodeContent(ordered ? records : records.map(sorted));
  // As text and in one call: objects for the hash and its bytes cost more than the hash of a small batch.
  const digest = hash("sha256", content, "hex").slice(0, digestLength);
  return seals === undefined ? digest : `${digest}+seal`;
}

function hasSeveralHeaders({ headers }: StoredRecord): boolean {
  let count = 0;
  for (const _ in headers) if (++count > 1) return true;
  return false;
}

/** The record with its headers in the order of their names. */
function sorted({ headers, data }: StoredRecord): StoredRecord {
  const entries = Object.entries(headers).sort(([a], [b]) => (a < b ? -1 : 1));
  return { headers: Object.fromEntries(entries), data };
}

/**
 * Checks that a repeat has the content of the batch that was stored. Throws a DomainError if it has another. A batch that
 * an earlier version stored has no digest, and is taken for the same.
 */
export function checkRepeat(
  { info, input, producer, state }: AppendCheck,
  stored: string | undefined,
  digest: string,
): void {
  if (stored === undefined || stored === digest) return;
  throw new DomainError({
    kind: "producer-conflict",
    stream: info.name,
    producer: producer?.id ?? "",
    producerSeq: input.producerSeq ?? 0,
    nextProducerSeq: state?.nextProducerSeq ?? 0,
  });
}

/** What is known of one producer of one stream. */
export interface ProducerState {
  readonly epoch: number;
  readonly nextProducerSeq: number;
  /** The first record that this epoch stored; until it has stored one, the tail when it was claimed. */
  readonly firstSeq: number;
  readonly lastTimeMs: number;
}

/** What an append comes to: positions of a batch that was stored before, or a new batch. */
export type Verdict =
  | { readonly kind: "duplicate"; readonly producerSeq: number }
  | {
      readonly kind: "store";
      readonly firstSeq: number;
      readonly nextSeq: number;
      readonly timeMs: number;
      readonly bytes: number;
    };

export interface AppendCheck {
  readonly info: StreamInfo;
  readonly input: AppendInput;
  readonly producer: ProducerId | undefined;
  readonly state: ProducerState | undefined;
  /** The tail that the append must find; absent: any. */
  readonly expectedSeq: number | undefined;
  readonly nowMs: number;
}

/**
 * Decides about one batch, in the order that the port promises: repeat, sealed,
 * epoch, gap, expected seq. Throws a DomainError if it must not be stored.
 */
export function judge({ info, input, producer, state, expectedSeq, nowMs }: AppendCheck): Verdict {
  const { name: stream, head, tail } = info;
  const { producerSeq } = input;
  const next = producer !== undefined && state?.epoch === producer.epoch ? state.nextProducerSeq : 0;
  if (producerSeq !== undefined && producer !== undefined && state?.epoch === producer.epoch && producerSeq < next) {
    if (producerSeq < next - producerWindow) {
      throw new DomainError({
        kind: "producer-repeat-too-old",
        stream,
        producer: producer.id,
        producerSeq,
        nextProducerSeq: next,
      });
    }
    return { kind: "duplicate", producerSeq };
  }
  if (info.sealed) throw new DomainError({ kind: "stream-sealed", stream, head, tail });
  if (producer !== undefined && producerSeq !== undefined) {
    if (state !== undefined && producer.epoch < state.epoch) {
      throw new DomainError({
        kind: "producer-fenced",
        stream,
        producer: producer.id,
        epoch: producer.epoch,
        currentEpoch: state.epoch,
      });
    }
    if (producerSeq !== next) {
      throw new DomainError({
        kind: "producer-gap",
        stream,
        producer: producer.id,
        producerSeq,
        nextProducerSeq: next,
      });
    }
  }
  for (const expected of [expectedSeq, input.seal?.expectedSeq]) {
    if (expected !== undefined && expected !== tail) {
      throw new DomainError({ kind: "seq-mismatch", stream, expected, head, tail });
    }
  }
  return {
    kind: "store",
    firstSeq: tail,
    nextSeq: tail + input.records.length,
    timeMs: Math.max(nowMs, info.appendTimeMs ?? info.createTimeMs),
    bytes: recordsSize(input.records),
  };
}

/**
 * Throws a DomainError if a stream that is about to be made for an appender would not have the expected tail: then it is
 * not made.
 */
export function checkNewTail({ stream, expectedSeq }: Pick<AppenderOptions, "stream" | "expectedSeq">): void {
  if (expectedSeq === undefined || expectedSeq === 0) return;
  throw new DomainError({ kind: "seq-mismatch", stream, expected: expectedSeq, head: 0, tail: 0 });
}

/** The stream, sealed. Throws a DomainError if it must not be. */
export function seal(
  info: StreamInfo,
  { expectedSeq, checksum }: { expectedSeq?: number; checksum?: SealChecksum },
): StreamInfo {
  const { name: stream, head, tail } = info;
  if (expectedSeq !== undefined && expectedSeq !== tail) {
    throw new DomainError({ kind: "seq-mismatch", stream, expected: expectedSeq, head, tail });
  }
  const old = info.checksum;
  if (info.sealed && checksum !== undefined && old !== undefined && !Buffer.from(old.sha256).equals(checksum.sha256)) {
    throw new DomainError({
      kind: "checksum-mismatch",
      stream,
      firstSeq: old.firstSeq,
      expected: checksum.sha256,
      actual: old.sha256,
    });
  }
  return { ...info, sealed: true, ...(checksum === undefined ? {} : { checksum }) };
}
