import { toError } from "../async/to-error.ts";
import { DomainError } from "../errors.ts";
import { judge, producerWindow, seal } from "./append-rules.ts";
import type { ProducerState } from "./append-rules.ts";
import { slice } from "./slice.ts";
import { recordSize } from "./store.ts";
import type {
  AppendInput,
  AppendResult,
  Appender,
  AppenderOptions,
  Retention,
  Store,
  StoredBatch,
  StreamInfo,
} from "./store.ts";
import { Waiters } from "./waiters.ts";

interface MemoryProducer extends ProducerState {
  readonly positions: Map<number, AppendResult>;
}

interface MemoryStream {
  readonly generation: number;
  info: StreamInfo;
  batches: StoredBatch[];
  readonly producers: Map<string, MemoryProducer>;
  deleted: boolean;
}

export interface MemoryStoreOptions {
  /** Milliseconds after which an idle producer is forgotten. */
  readonly producerTtlMs?: number;
  readonly now?: () => number;
}

/** A store in memory, which ends with the process. */
export function createMemoryStore(options: MemoryStoreOptions = {}): Store {
  const now = options.now ?? Date.now;
  const streams = new Map<string, MemoryStream>();
  const waiters = new Waiters();
  let generations = 0;

  function find(name: string): MemoryStream {
    const stream = streams.get(name);
    if (stream === undefined) throw new DomainError({ kind: "stream-not-found", stream: name });
    return stream;
  }
  function add(name: string, retention: Retention): MemoryStream {
    const info: StreamInfo = { name, head: 0, tail: 0, bytes: 0, sealed: false, createTimeMs: now(), retention };
    const generation = ++generations;
    const stream: MemoryStream = { generation, info, batches: [], producers: new Map(), deleted: false };
    streams.set(name, stream);
    return stream;
  }
  function wake(stream: MemoryStream): void {
    waiters.wake(stream.info.name);
  }
  function drop(stream: MemoryStream, count: number): void {
    let bytes = 0;
    for (const batch of stream.batches.splice(0, count))
      for (const record of batch.records) bytes += recordSize(record);
    const head = stream.batches[0]?.firstSeq ?? stream.info.tail;
    stream.info = { ...stream.info, head: Math.max(head, stream.info.head), bytes: stream.info.bytes - bytes };
  }
  function retain(stream: MemoryStream, nowMs: number): void {
    const { maxAgeMs, maxBytes, maxRecords } = stream.info.retention;
    while (stream.batches.length > 1) {
      const [oldest, second] = stream.batches;
      if (oldest === undefined || second === undefined) return;
      const { bytes, tail, head } = stream.info;
      const over =
        (maxAgeMs !== undefined && oldest.timeMs < nowMs - maxAgeMs) ||
        (maxBytes !== undefined && bytes > maxBytes) ||
        (maxRecords !== undefined && tail - head > maxRecords);
      if (!over) return;
      drop(stream, 1);
    }
  }
  function append(
    stream: MemoryStream,
    input: AppendInput,
    options: AppenderOptions,
    expectedSeq: number | undefined,
  ): AppendResult {
    if (stream.deleted) throw new DomainError({ kind: "stream-not-found", stream: options.stream });
    const { producer } = options;
    const state = producer && stream.producers.get(producer.id);
    const verdict = judge({ info: stream.info, input, producer, state, expectedSeq, nowMs: now() });
    if (verdict.kind === "duplicate") {
      const positions = state?.positions.get(verdict.producerSeq);
      if (positions === undefined) throw new Error("a producer's batch was forgotten within its window");
      return { ...positions, duplicate: true };
    }
    const { firstSeq, nextSeq, timeMs, bytes } = verdict;
    if (input.records.length > 0) stream.batches.push({ firstSeq, timeMs, records: [...input.records] });
    stream.info = {
      ...stream.info,
      tail: nextSeq,
      bytes: stream.info.bytes + bytes,
      ...(input.records.length > 0 ? { appendTimeMs: timeMs } : {}),
    };
    if (input.seal !== undefined) {
      const { checksum } = input.seal;
      stream.info = seal(stream.info, checksum === undefined ? {} : { checksum });
    }
    const result = { firstSeq, nextSeq, duplicate: false };
    if (producer !== undefined && input.producerSeq !== undefined) {
      const same = state?.epoch === producer.epoch ? state : undefined;
      const positions = same?.positions ?? new Map<number, AppendResult>();
      positions.set(input.producerSeq, result);
      positions.delete(input.producerSeq - producerWindow);
      stream.producers.set(producer.id, {
        epoch: producer.epoch,
        nextProducerSeq: input.producerSeq + 1,
        firstSeq: same?.firstSeq ?? firstSeq,
        lastTimeMs: timeMs,
        positions,
      });
    }
    retain(stream, now());
    wake(stream);
    return result;
  }

  const inTurn = <T>(run: () => T): Promise<T> =>
    new Promise((resolve) => {
      resolve(run());
    });

  return {
    durability: "memory",
    create: (name, retention = {}) =>
      inTurn(() => {
        if (streams.has(name)) throw new DomainError({ kind: "stream-exists", stream: name });
        return add(name, retention).info;
      }),
    get: (name) => inTurn(() => find(name).info),
    list: ({ prefix = "", after, limit }) =>
      inTurn(() =>
        [...streams.keys()]
          .filter((name) => name.startsWith(prefix) && (after === undefined || name > after))
          .sort((a, b) => (a < b ? -1 : 1))
          .slice(0, limit)
          .map((name) => find(name).info),
      ),
    delete: (name) =>
      inTurn(() => {
        const stream = find(name);
        stream.deleted = true;
        streams.delete(name);
        wake(stream);
      }),
    trim: (name, beforeSeq) =>
      inTurn(() => {
        const stream = find(name);
        const { head, tail } = stream.info;
        if (beforeSeq > tail) {
          throw new DomainError({ kind: "position-out-of-range", stream: name, seq: beforeSeq, head, tail });
        }
        if (beforeSeq <= head) return stream.info;
        const first = stream.batches.findIndex((batch) => batch.firstSeq + batch.records.length > beforeSeq);
        drop(stream, first < 0 ? stream.batches.length : first);
        const cut = stream.batches[0];
        if (cut !== undefined && cut.firstSeq < beforeSeq) {
          const gone = cut.records.slice(0, beforeSeq - cut.firstSeq);
          stream.batches[0] = { ...cut, firstSeq: beforeSeq, records: cut.records.slice(gone.length) };
          const bytes = gone.reduce((sum, record) => sum + recordSize(record), 0);
          stream.info = { ...stream.info, bytes: stream.info.bytes - bytes };
        }
        stream.info = { ...stream.info, head: beforeSeq };
        return stream.info;
      }),
    seal: (name, options = {}) =>
      inTurn(() => {
        const stream = find(name);
        stream.info = seal(stream.info, options);
        wake(stream);
        return stream.info;
      }),
    openAppender: (options): Promise<Appender> =>
      inTurn(() => {
        const stream =
          streams.get(options.stream) ??
          (options.createIfMissing === true ? add(options.stream, {}) : find(options.stream));
        const state = options.producer && stream.producers.get(options.producer.id);
        const same = state?.epoch === options.producer?.epoch ? state : undefined;
        let failure: Error | undefined;
        let expectedSeq = options.expectedSeq;
        return {
          tail: stream.info.tail,
          firstSeq: same?.firstSeq ?? stream.info.tail,
          ...(options.producer === undefined ? {} : { nextProducerSeq: same?.nextProducerSeq ?? 0 }),
          append: (input: AppendInput) =>
            inTurn(() => {
              if (failure !== undefined) throw failure;
              try {
                const result = append(stream, input, options, expectedSeq);
                if (expectedSeq !== undefined) expectedSeq = result.nextSeq;
                return result;
              } catch (error) {
                failure = toError(error);
                throw failure;
              }
            }),
        };
      }),
    read: (name, fromSeq, readOptions) =>
      inTurn(() => {
        const { info, batches, generation } = find(name);
        if (readOptions.generation !== undefined && readOptions.generation !== generation) {
          throw new DomainError({ kind: "stream-not-found", stream: name });
        }
        const { head, tail } = info;
        if (fromSeq < head || fromSeq > tail) {
          throw new DomainError({ kind: "position-out-of-range", stream: name, seq: fromSeq, head, tail });
        }
        let low = 0;
        let high = batches.length;
        while (low < high) {
          const middle = (low + high) >> 1;
          const batch = batches[middle];
          if (batch !== undefined && batch.firstSeq + batch.records.length <= fromSeq) low = middle + 1;
          else high = middle;
        }
        return { ...slice(from(batches, low), fromSeq, readOptions), info, generation };
      }),
    seqAtTime: (name, timeMs) =>
      inTurn(() => {
        const { info, batches } = find(name);
        return batches.find((batch) => batch.timeMs >= timeMs)?.firstSeq ?? info.tail;
      }),
    waitForChange: async (name, tail, signal) => {
      const stream = streams.get(name);
      if (stream === undefined || stream.info.tail !== tail || stream.info.sealed) return;
      await waiters.wait(name, signal);
    },
    sweep: (nowMs) =>
      inTurn(() => {
        for (const stream of streams.values()) {
          retain(stream, nowMs);
          for (const [id, { lastTimeMs }] of stream.producers) {
            if (options.producerTtlMs !== undefined && lastTimeMs < nowMs - options.producerTtlMs)
              stream.producers.delete(id);
          }
        }
      }),
    close: () => Promise.resolve(),
  };
}

function* from<T>(items: readonly T[], start: number): Generator<T> {
  for (let i = start; i < items.length; i++) yield items[i] as T;
}
