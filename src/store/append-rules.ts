import { DomainError } from "../errors.ts";
import { recordSize } from "./store.ts";
import type { AppendInput, ProducerId, SealChecksum, StreamInfo } from "./store.ts";

/** Batches of a producer whose positions are remembered, so that a repeat is answered with them. */
export const producerWindow = 1024;

/** What is known of one producer of one stream. */
export interface ProducerState {
  readonly epoch: number;
  readonly nextProducerSeq: number;
  /** The first record that this epoch stored. */
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
  let bytes = 0;
  for (const record of input.records) bytes += recordSize(record);
  return {
    kind: "store",
    firstSeq: tail,
    nextSeq: tail + input.records.length,
    timeMs: Math.max(nowMs, info.appendTimeMs ?? info.createTimeMs),
    bytes,
  };
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
