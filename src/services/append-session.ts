import { createHash } from "node:crypto";
import type { AppendBatch } from "../../gen/data/v1/data_pb.ts";
import { DomainError } from "../errors.ts";
import { onAbort } from "../async/signals.ts";
import type { AppendInput, AppendResult, Appender, ProducerId, SealChecksum, Store } from "../store/store.ts";
import { recordsSize, requireUid } from "../store/store.ts";
import { toOptionalNumber, toRecords } from "./conversions.ts";
import { hashRange } from "./hash-range.ts";
import type { DataLimits } from "./limits.ts";
import type { Call } from "../runtime/call.ts";

export interface SessionOptions {
  readonly stream: string;
  readonly expectedUid: string | undefined;
  readonly createIfMissing: boolean;
  readonly producer?: ProducerId;
  readonly expectedSeq?: number;
}

/** What a record takes in memory besides its data, its headers and their names, in bytes. */
const recordBytes = 300;

/**
 * The appends of one Upload or Exchange call: many in flight, in order, and the
 * checksum of what they stored.
 */
export class AppendSession {
  readonly appender: Appender;
  readonly #store: Store;
  readonly #stream: string;
  readonly #hasProducer: boolean;
  readonly #limits: DataLimits;
  readonly #signal: AbortSignal;
  /** What the call holds; absent if it did not come over a socket. */
  readonly #memory: Call["memory"] | undefined;
  /** Of everything from `appender.firstSeq` on, as long as this call alone stored it. */
  readonly #hash = createHash("sha256");
  #hashedTo: number;
  #pendingBytes = 0;
  #last: Promise<unknown> = Promise.resolve();
  #waiting: (() => void)[] = [];
  #sealed = false;

  static async open(
    store: Store,
    options: SessionOptions,
    limits: DataLimits,
    signal: AbortSignal,
    memory: Call["memory"] | undefined,
  ): Promise<AppendSession> {
    const appender = await store.openAppender(options);
    return new AppendSession(store, appender, options, limits, signal, memory);
  }

  private constructor(
    store: Store,
    appender: Appender,
    options: SessionOptions,
    limits: DataLimits,
    signal: AbortSignal,
    memory: Call["memory"] | undefined,
  ) {
    this.#store = store;
    this.appender = appender;
    this.#stream = options.stream;
    this.#hasProducer = options.producer !== undefined;
    this.#limits = limits;
    this.#signal = signal;
    this.#memory = memory;
    this.#hashedTo = appender.firstSeq;
  }

  /**
   * Hands the batch to the store, and resolves once there is room for the next
   * one; `stored` resolves once it is durable.
   */
  async append(batch: Omit<AppendBatch, "$typeName">): Promise<{ stored: Promise<AppendResult> }> {
    const input = await this.#toInput(batch);
    const size = recordsSize(input.records);
    const held = size + input.records.length * recordBytes;
    // What the disk is about to take makes room.
    while (this.#memory?.charge(held) === false) {
      if (this.#pendingBytes === 0) throw this.#memory.exhausted();
      await this.#room();
    }
    this.#pendingBytes += size;
    const stored = this.appender.append(input).then((result) => {
      this.#hashStored(input, result);
      return result;
    });
    this.#last = stored;
    stored
      .finally(() => {
        this.#pendingBytes -= size;
        this.#memory?.release(held);
        for (const wake of this.#waiting.splice(0)) wake();
      })
      // Whoever called has the failure in `stored`.
      .catch(() => undefined);
    while (this.#pendingBytes > this.#limits.maxPendingBytes) await this.#room();
    return { stored };
  }

  /** To be called when the call is over. */
  close(): void {
    this.appender.close();
  }

  async #toInput(batch: Omit<AppendBatch, "$typeName">): Promise<AppendInput> {
    const stream = this.#stream;
    if (this.#sealed) {
      throw new DomainError({
        kind: "invalid-argument",
        detail: "an append with seal must be the last one of the call",
      });
    }
    const producerSeq = toOptionalNumber(batch.producerSeq, "producer_seq");
    if ((producerSeq !== undefined) !== this.#hasProducer) {
      const detail = this.#hasProducer
        ? "the call was opened with a producer: every append needs a producer_seq"
        : "producer_seq needs a producer, which is given with open";
      throw new DomainError({ kind: "invalid-argument", detail });
    }
    const records = toRecords(stream, batch.records, this.#limits);
    const common = { records, ...(producerSeq === undefined ? {} : { producerSeq }) };
    if (!batch.seal) return common;
    this.#sealed = true;
    if (batch.sha256.byteLength === 0) return { ...common, seal: {} };
    const { checksum, expectedSeq } = await this.#verify(common, batch.sha256);
    return { ...common, seal: { checksum, expectedSeq } };
  }

  /** Compares the client's checksum with what is stored and with the batch that is to seal it. */
  async #verify(input: AppendInput, sha256: Uint8Array): Promise<{ checksum: SealChecksum; expectedSeq: number }> {
    // Everything before the seal must be stored, or have failed, before it can be hashed.
    await this.#last;
    const { firstSeq, uid } = this.appender;
    const info = await this.#store.get(this.#stream);
    requireUid(info, uid);
    const range = { stream: this.#stream, uid, from: firstSeq, to: info.tail };
    const hash =
      this.#hashedTo === info.tail
        ? this.#hash.copy()
        : await hashRange(this.#store, range, this.#limits.readChunkBytes, this.#signal);
    // A repeat of a seal that was stored finds its records there already.
    if (!info.sealed) for (const record of input.records) hash.update(record.data);
    const actual = hash.digest();
    if (!actual.equals(sha256)) {
      throw new DomainError({ kind: "checksum-mismatch", stream: this.#stream, firstSeq, expected: sha256, actual });
    }
    return { checksum: { sha256, firstSeq }, expectedSeq: info.tail };
  }

  #hashStored({ records }: AppendInput, { firstSeq, nextSeq, duplicate }: AppendResult): void {
    // After a gap (somebody else's records, or a repeat) the range is read from the store if it is needed.
    if (duplicate || firstSeq !== this.#hashedTo) return;
    for (const record of records) this.#hash.update(record.data);
    this.#hashedTo = nextSeq;
  }

  #room(): Promise<void> {
    return new Promise((resolve, reject) => {
      const cleanup = onAbort(this.#signal, reject);
      this.#waiting.push(() => {
        cleanup();
        resolve();
      });
    });
  }
}
