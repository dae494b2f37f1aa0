import { TimeSlice } from "../async/time-slice.ts";
import { toError } from "../async/to-error.ts";
import { DomainError } from "../errors.ts";
import { ageFrom, noteArrival, notice } from "./age.ts";
import type { Noticed } from "./age.ts";
import { checkNewTail, checkRepeat, digestOf, judge, nextEpoch, producerWindow, seal } from "./append-rules.ts";
import type { ProducerState } from "./append-rules.ts";
import { newUid } from "./identity.ts";
import { Room, batchCost, producerCost, streamCost } from "./memory-room.ts";
import type { Tenant } from "./memory-room.ts";
import { everything, firstBehind, firstIndex } from "./name-order.ts";
import { OpenProducers } from "./open-producers.ts";
import { slice } from "./slice.ts";
import { SortedNames } from "./sorted-names.ts";
import type {
  AppendInput,
  AppendResult,
  Appender,
  AppenderOptions,
  ClaimOptions,
  Metadata,
  NameRange,
  Retention,
  Store,
  StoredBatch,
  StreamInfo,
} from "./store.ts";
import { changeRetention, recordsSize, requireUid } from "./store.ts";
import { Watchers } from "./watchers.ts";

type StoredPosition = AppendResult & { readonly digest: string };

interface MemoryProducer extends ProducerState {
  readonly positions: Map<number, StoredPosition>;
}

interface MemoryBatch extends StoredBatch {
  readonly arrivalMs: number;
  /** Of memory, about, in bytes. */
  readonly cost: number;
  /** Of its records. */
  readonly bytes: number;
}

interface MemoryStream extends Tenant {
  readonly id: number;
  info: StreamInfo;
  batches: MemoryBatch[];
  readonly producers: Map<string, MemoryProducer>;
  /** The highest epoch that was claimed of any of its producers. */
  claims: number;
  /** Undefined: no sweep has found records from the future in it. */
  noticed: Noticed | undefined;
  deleted: boolean;
}

export interface MemoryStoreOptions {
  /** Bytes of memory that it may take, about; what would go beyond fails with "store-full". Default: no limit. */
  readonly maxBytes?: number;
  /** Milliseconds after which an idle producer is forgotten. */
  readonly producerTtlMs?: number;
  readonly now?: () => number;
}

/** A store in memory, which ends with the process. */
export function createMemoryStore(options: MemoryStoreOptions = {}): Store {
  const now = options.now ?? Date.now;
  const streams = new Map<string, MemoryStream>();
  const names = new SortedNames();
  /** Those that a sweep has to look at. */
  const retained = new Set<MemoryStream>();
  const produced = new Set<MemoryStream>();
  const openProducers = new OpenProducers();
  const watchers = new Watchers();
  const room = new Room(options.maxBytes ?? Infinity);
  let lastId = 0;

  function find(name: string, expectedUid?: string): MemoryStream {
    const stream = streams.get(name);
    if (stream === undefined) throw new DomainError({ kind: "stream-not-found", stream: name });
    requireUid(stream.info, expectedUid);
    return stream;
  }
  function findOrAdd({ stream, createIfMissing, expectedUid }: AppenderOptions | ClaimOptions): MemoryStream {
    const mayAdd = createIfMissing === true && expectedUid === undefined;
    return mayAdd && !streams.has(stream) ? add(stream) : find(stream, expectedUid);
  }
  function add(name: string, retention: Retention = {}, metadata?: Metadata): MemoryStream {
    const info: StreamInfo = {
      name,
      uid: newUid(),
      head: 0,
      tail: 0,
      bytes: 0,
      sealed: false,
      createTimeMs: now(),
      retention,
      ...(metadata === undefined ? {} : { metadata }),
    };
    room.require(streamCost(info));
    const stream: MemoryStream = {
      room: 0,
      id: ++lastId,
      info,
      batches: [],
      producers: new Map(),
      claims: 0,
      noticed: undefined,
      deleted: false,
    };
    room.take(stream, streamCost(info));
    streams.set(name, stream);
    names.add(name);
    if (Object.keys(retention).length > 0) retained.add(stream);
    return stream;
  }
  function remove(stream: MemoryStream): void {
    const { name } = stream.info;
    stream.deleted = true;
    room.give(stream, stream.room);
    streams.delete(name);
    names.delete(name);
    retained.delete(stream);
    produced.delete(stream);
  }
  function wake(stream: MemoryStream): void {
    watchers.wake(stream.info.name);
  }
  function drop(stream: MemoryStream, count: number): void {
    let bytes = 0;
    for (const batch of stream.batches.splice(0, count)) {
      bytes += batch.bytes;
      room.give(stream, batch.cost);
    }
    const head = stream.batches[0]?.firstSeq ?? stream.info.tail;
    stream.info = { ...stream.info, head: Math.max(head, stream.info.head), bytes: stream.info.bytes - bytes };
  }
  function retain(stream: MemoryStream, nowMs: number): void {
    const { maxAgeMs = Infinity, maxBytes = Infinity, maxRecords = Infinity } = stream.info.retention;
    const { batches } = stream;
    let { bytes, head } = stream.info;
    let count = 0;
    for (; count < batches.length - 1; count++) {
      const oldest = batches[count] as MemoryBatch;
      const isOld = ageFrom(oldest, stream.noticed, nowMs) < nowMs - maxAgeMs;
      if (!isOld && bytes <= maxBytes && stream.info.tail - head <= maxRecords) break;
      bytes -= oldest.bytes;
      head = oldest.firstSeq + oldest.records.length;
    }
    if (count > 0) drop(stream, count);
  }
  function append(
    stream: MemoryStream,
    input: AppendInput,
    options: AppenderOptions,
    expectedSeq: number | undefined,
  ): AppendResult {
    if (stream.deleted) find(options.stream, stream.info.uid);
    const { producer } = options;
    const state = producer && stream.producers.get(producer.id);
    const check = { info: stream.info, input, producer, state, expectedSeq, nowMs: now() };
    const verdict = judge(check);
    if (verdict.kind === "duplicate") {
      const positions = state?.positions.get(verdict.producerSeq);
      if (positions === undefined) throw new Error("a producer's batch was forgotten within its window");
      checkRepeat(check, positions.digest, digestOf(input));
      return { firstSeq: positions.firstSeq, nextSeq: positions.nextSeq, duplicate: true };
    }
    const { firstSeq, nextSeq, timeMs, bytes } = verdict;
    const records = [...input.records];
    const same = state?.epoch === producer?.epoch ? state : undefined;
    const before = state === undefined || producer === undefined ? 0 : producerCost(producer.id, state.positions.size);
    const after =
      producer === undefined ? 0 : producerCost(producer.id, Math.min(producerWindow, (same?.positions.size ?? 0) + 1));
    if (records.length > 0) {
      const cost = batchCost(records);
      room.require(cost + after - before);
      stream.batches.push({ firstSeq, timeMs, arrivalMs: check.nowMs, records, bytes, cost });
      stream.noticed &&= noteArrival(stream.noticed, check.nowMs);
      room.take(stream, cost);
    }
    // A stream can be sealed in a full store.
    room.take(stream, after - before);
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
      const positions = same?.positions ?? new Map<number, StoredPosition>();
      positions.set(input.producerSeq, { ...result, digest: digestOf(input) });
      positions.delete(input.producerSeq - producerWindow);
      produced.add(stream);
      stream.producers.set(producer.id, {
        epoch: producer.epoch,
        nextProducerSeq: input.producerSeq + 1,
        firstSeq: same !== undefined && input.producerSeq > 0 ? same.firstSeq : firstSeq,
        lastTimeMs: check.nowMs,
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
    broken: new AbortController().signal,
    create: (name, retention, metadata) =>
      inTurn(() => {
        if (streams.has(name)) throw new DomainError({ kind: "stream-exists", stream: name });
        return add(name, retention, metadata).info;
      }),
    update: (name, change, { expectedUid } = {}) =>
      inTurn(() => {
        const stream = find(name, expectedUid);
        const retention = changeRetention(stream.info.retention, change);
        stream.info = { ...stream.info, retention };
        if (Object.keys(retention).length > 0) retained.add(stream);
        else retained.delete(stream);
        retain(stream, now());
        return stream.info;
      }),
    get: (name) => inTurn(() => find(name).info),
    async list({ ranges = [everything], after, limit }, signal) {
      const found: StreamInfo[] = [];
      const turn = new TimeSlice(signal);
      turn.check();
      for (let at = after === undefined ? 0 : firstBehind(ranges, after); at < ranges.length; at++) {
        const { from, to } = ranges[at] as NameRange;
        const exclusive = after !== undefined && after >= from;
        const part = names.slice(exclusive ? after : from, to, { exclusive, limit: limit - found.length });
        for (const name of part) found.push(find(name).info);
        if (found.length === limit) break;
        if (turn.isOver) await turn.next();
      }
      return found;
    },
    delete: (name, { expectedUid } = {}) =>
      inTurn(() => {
        const stream = find(name, expectedUid);
        remove(stream);
        wake(stream);
      }),
    trim: (name, beforeSeq, { signal, expectedUid } = {}) =>
      inTurn(() => {
        new TimeSlice(signal).check();
        const stream = find(name, expectedUid);
        const { head, tail } = stream.info;
        if (beforeSeq > tail) {
          throw new DomainError({ kind: "position-out-of-range", stream: name, seq: beforeSeq, head, tail });
        }
        if (beforeSeq <= head) return stream.info;
        const first = firstIndex(stream.batches, (batch) => batch.firstSeq + batch.records.length > beforeSeq);
        drop(stream, first);
        const cut = stream.batches[0];
        if (cut !== undefined && cut.firstSeq < beforeSeq) {
          const gone = cut.records.slice(0, beforeSeq - cut.firstSeq);
          const bytes = recordsSize(gone);
          const records = cut.records.slice(gone.length);
          const cost = batchCost(records);
          room.give(stream, cut.cost - cost);
          stream.batches[0] = { ...cut, firstSeq: beforeSeq, records, bytes: cut.bytes - bytes, cost };
          stream.info = { ...stream.info, bytes: stream.info.bytes - bytes };
        }
        stream.info = { ...stream.info, head: beforeSeq };
        return stream.info;
      }),
    seal: (name, options = {}) =>
      inTurn(() => {
        const stream = find(name, options.expectedUid);
        stream.info = seal(stream.info, options);
        wake(stream);
        return stream.info;
      }),
    openAppender: (options): Promise<Appender> =>
      inTurn(() => {
        const { stream: name, createIfMissing, expectedUid } = options;
        if (createIfMissing === true && expectedUid === undefined && !streams.has(name)) checkNewTail(options);
        const stream = findOrAdd(options);
        const state = options.producer && stream.producers.get(options.producer.id);
        const same = state?.epoch === options.producer?.epoch ? state : undefined;
        let failure: Error | undefined;
        let expectedSeq = options.expectedSeq;
        const { producer } = options;
        const leave = producer === undefined ? undefined : openProducers.enter(stream.id, producer.id);
        return {
          uid: stream.info.uid,
          tail: stream.info.tail,
          firstSeq: same !== undefined && same.nextProducerSeq > 0 ? same.firstSeq : stream.info.tail,
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
          close: () => {
            leave?.();
            // It is idle from now on.
            if (producer === undefined) return;
            const known = stream.producers.get(producer.id);
            if (known !== undefined) stream.producers.set(producer.id, { ...known, lastTimeMs: now() });
          },
        };
      }),
    append: (options, input) =>
      inTurn(() => {
        const isNew = !streams.has(options.stream);
        const stream = findOrAdd(options);
        try {
          return { ...append(stream, input, options, options.expectedSeq), uid: stream.info.uid };
        } catch (error) {
          // In the same turn, so that nobody has seen it.
          if (isNew) remove(stream);
          throw error;
        }
      }),
    claimProducer: (claim) =>
      inTurn(() => {
        const { producerId } = claim;
        const isNew = !streams.has(claim.stream);
        const stream = findOrAdd(claim);
        const known = stream.producers.get(producerId);
        const before = known === undefined ? 0 : producerCost(producerId, known.positions.size);
        const after = producerCost(producerId, 0);
        let epoch: number;
        try {
          epoch = nextEpoch(stream.claims, known);
          room.require(after - before);
        } catch (error) {
          // In the same turn, so that nobody has seen it.
          if (isNew) remove(stream);
          throw error;
        }
        room.take(stream, after - before);
        stream.claims = epoch;
        produced.add(stream);
        stream.producers.set(producerId, {
          epoch,
          nextProducerSeq: 0,
          firstSeq: stream.info.tail,
          lastTimeMs: now(),
          positions: new Map(),
        });
        return { epoch, uid: stream.info.uid };
      }),
    read: (name, fromSeq, readOptions) =>
      inTurn(() => {
        const { info, batches } = find(name, readOptions.expectedUid);
        const { head, tail } = info;
        if (fromSeq < head || fromSeq > tail) {
          throw new DomainError({ kind: "position-out-of-range", stream: name, seq: fromSeq, head, tail });
        }
        const first = firstIndex(batches, (batch) => batch.firstSeq + batch.records.length > fromSeq);
        return { ...slice(from(batches, first), fromSeq, readOptions), info };
      }),
    seqAtTime: (name, timeMs) =>
      inTurn(() => {
        const { info, batches } = find(name);
        return batches[firstIndex(batches, (batch) => batch.timeMs >= timeMs)]?.firstSeq ?? info.tail;
      }),
    watch: (name, listener) => watchers.watch(name, listener),
    async sweep(nowMs, signal) {
      const turn = new TimeSlice(signal);
      turn.check();
      for (const stream of retained) {
        stream.noticed = notice(stream.info, stream.noticed, nowMs) ?? stream.noticed;
        retain(stream, nowMs);
        if (turn.isOver) await turn.next();
      }
      const idleSince = nowMs - (options.producerTtlMs ?? Infinity);
      for (const stream of produced) {
        for (const [id, producer] of stream.producers) {
          if (stream.deleted) break;
          const { lastTimeMs, positions } = producer;
          // The clock has been ahead.
          if (lastTimeMs > nowMs) stream.producers.set(id, { ...producer, lastTimeMs: nowMs });
          if (lastTimeMs < idleSince && !openProducers.has(stream.id, id)) {
            stream.producers.delete(id);
            room.give(stream, producerCost(id, positions.size));
          }
          if (turn.isOver) await turn.next();
        }
        if (stream.producers.size === 0) produced.delete(stream);
      }
    },
    close: () => Promise.resolve(),
  };
}

function* from<T>(items: readonly T[], start: number): Generator<T> {
  for (let i = start; i < items.length; i++) yield items[i] as T;
}
