import type { ProblemKind } from "../../src/errors.ts";
import type { AppendInput, AppendResult, AppenderOptions, ReadOptions, SealChecksum } from "../../src/store/store.ts";

/** A refusal, by the kind of the DomainError that a store fails with. */
export class Refused extends Error {
  readonly kind: ProblemKind;
  constructor(kind: ProblemKind) {
    super(kind);
    this.kind = kind;
  }
}

interface ReferenceRecord {
  readonly timeMs: number;
  readonly text: string;
}

interface ReferenceProducer {
  readonly epoch: number;
  /** Undefined until it has stored something. */
  firstSeq: number | undefined;
  /** By producer_seq; its length is the next one. */
  readonly batches: { readonly result: AppendResult; readonly content: string }[];
}

class ReferenceStream {
  /** Every record that there ever was, by its seq. */
  readonly records: ReferenceRecord[] = [];
  readonly producers = new Map<string, ReferenceProducer>();
  claims = 0;
  head = 0;
  sealed = false;
  checksum: SealChecksum | undefined;
  appendTimeMs: number | undefined;
  readonly createTimeMs: number;

  constructor(createTimeMs: number) {
    this.createTimeMs = createTimeMs;
  }

  get tail(): number {
    return this.records.length;
  }
}

export interface ReferenceAppender {
  readonly stream: ReferenceStream;
  readonly options: AppenderOptions;
  expectedSeq: number | undefined;
  failure: Refused | undefined;
}

/** What a store promises, in the plainest way: one thing at a time, and nothing is ever cleaned up. */
export class Reference {
  nowMs = 1_000_000;
  readonly #streams = new Map<string, ReferenceStream>();

  create(name: string): void {
    if (this.#streams.has(name)) throw new Refused("stream-exists");
    this.#streams.set(name, new ReferenceStream(this.nowMs));
  }

  delete(name: string): void {
    this.#find(name);
    this.#streams.delete(name);
  }

  list(prefix: string): string[] {
    return [...this.#streams.keys()].filter((name) => name.startsWith(prefix)).sort();
  }

  describe(name: string): object {
    const { head, tail, records, sealed, checksum, createTimeMs, appendTimeMs } = this.#find(name);
    const bytes = records.slice(head).reduce((sum, { text }) => sum + text.length, 0);
    return { head, tail, bytes, sealed, checksum, createTimeMs, appendTimeMs };
  }

  /** Undefined if there is no such stream. */
  tailOf(name: string): number | undefined {
    return this.#streams.get(name)?.tail;
  }

  nextProducerSeq(name: string, id: string, epoch: number): number {
    const state = this.#streams.get(name)?.producers.get(id);
    return state?.epoch === epoch ? state.batches.length : 0;
  }

  trim(name: string, beforeSeq: number): void {
    const stream = this.#find(name);
    if (beforeSeq > stream.tail) throw new Refused("position-out-of-range");
    stream.head = Math.max(stream.head, beforeSeq);
  }

  seal(name: string, options: { expectedSeq?: number; checksum?: SealChecksum }): void {
    const stream = this.#find(name);
    if (options.expectedSeq !== undefined && options.expectedSeq !== stream.tail) throw new Refused("seq-mismatch");
    const other = options.checksum?.sha256.toString() !== stream.checksum?.sha256.toString();
    if (stream.sealed && options.checksum !== undefined && stream.checksum !== undefined && other) {
      throw new Refused("checksum-mismatch");
    }
    stream.sealed = true;
    stream.checksum = options.checksum ?? stream.checksum;
  }

  read(name: string, fromSeq: number, { maxRecords, maxBytes }: ReadOptions): object {
    const { head, tail, records } = this.#find(name);
    if (fromSeq < head || fromSeq > tail) throw new Refused("position-out-of-range");
    const found: object[] = [];
    let bytes = 0;
    for (const [i, { timeMs, text }] of records.slice(fromSeq).entries()) {
      bytes += text.length;
      if (found.length === maxRecords || (bytes > maxBytes && found.length > 0)) break;
      found.push({ seq: fromSeq + i, timeMs, text });
    }
    return { found, nextSeq: fromSeq + found.length };
  }

  seqAtTime(name: string, timeMs: number): number {
    const { head, tail, records } = this.#find(name);
    const index = records.findIndex((record, seq) => seq >= head && record.timeMs >= timeMs);
    return index < 0 ? tail : index;
  }

  open(options: AppenderOptions): { appender: ReferenceAppender; described: object } {
    const { producer, expectedSeq } = options;
    if (options.createIfMissing === true && !this.#streams.has(options.stream)) {
      if (expectedSeq !== undefined && expectedSeq !== 0) throw new Refused("seq-mismatch");
      this.create(options.stream);
    }
    const stream = this.#find(options.stream);
    const state = producer && stream.producers.get(producer.id);
    const same = state?.epoch === producer?.epoch ? state : undefined;
    return {
      appender: { stream, options, expectedSeq, failure: undefined },
      described: {
        tail: stream.tail,
        firstSeq: same?.firstSeq ?? stream.tail,
        nextProducerSeq: producer && (same?.batches.length ?? 0),
      },
    };
  }

  claim(name: string, id: string): number {
    if (!this.#streams.has(name)) this.create(name);
    const stream = this.#find(name);
    const epoch = Math.max(stream.claims, stream.producers.get(id)?.epoch ?? 0) + 1;
    stream.claims = epoch;
    stream.producers.set(id, { epoch, firstSeq: undefined, batches: [] });
    return epoch;
  }

  append(appender: ReferenceAppender, input: AppendInput): AppendResult {
    if (appender.failure !== undefined) throw appender.failure;
    try {
      const result = this.#append(appender, input);
      if (appender.expectedSeq !== undefined) appender.expectedSeq = result.nextSeq;
      return result;
    } catch (error) {
      if (error instanceof Refused) appender.failure = error;
      throw error;
    }
  }

  #append({ stream, options, expectedSeq }: ReferenceAppender, input: AppendInput): AppendResult {
    if (!this.#streams.has(options.stream)) throw new Refused("stream-not-found");
    if (this.#streams.get(options.stream) !== stream) throw new Refused("stream-replaced");
    const { producer } = options;
    const { producerSeq, seal } = input;
    let state = producer && stream.producers.get(producer.id);
    if (producer !== undefined && producerSeq !== undefined) {
      const before = state?.epoch === producer.epoch ? state.batches[producerSeq] : undefined;
      if (before !== undefined) {
        if (before.content !== contentOf(input)) throw new Refused("producer-conflict");
        return { ...before.result, duplicate: true };
      }
    }
    if (stream.sealed) throw new Refused("stream-sealed");
    if (producer !== undefined && producerSeq !== undefined) {
      if (state !== undefined && state.epoch > producer.epoch) throw new Refused("producer-fenced");
      if (state?.epoch !== producer.epoch) state = { epoch: producer.epoch, firstSeq: undefined, batches: [] };
      if (producerSeq !== state.batches.length) throw new Refused("producer-gap");
    }
    for (const expected of [expectedSeq, seal?.expectedSeq]) {
      if (expected !== undefined && expected !== stream.tail) throw new Refused("seq-mismatch");
    }
    const firstSeq = stream.tail;
    const timeMs = Math.max(this.nowMs, stream.createTimeMs, stream.appendTimeMs ?? 0);
    if (input.records.length > 0) stream.appendTimeMs = timeMs;
    for (const { data } of input.records) stream.records.push({ timeMs, text: Buffer.from(data).toString() });
    if (seal !== undefined) this.seal(options.stream, seal.checksum === undefined ? {} : { checksum: seal.checksum });
    const result = { firstSeq, nextSeq: stream.tail, duplicate: false };
    if (producer !== undefined && state !== undefined) {
      state.firstSeq ??= firstSeq;
      state.batches.push({ result, content: contentOf(input) });
      stream.producers.set(producer.id, state);
    }
    return result;
  }

  #find(name: string): ReferenceStream {
    const stream = this.#streams.get(name);
    if (stream === undefined) throw new Refused("stream-not-found");
    return stream;
  }
}

function contentOf({ records, seal }: AppendInput): string {
  return JSON.stringify([records.map(({ data }) => Buffer.from(data).toString()), seal !== undefined]);
}
