import { TimeSlice } from "../async/time-slice.ts";
import { toError } from "../async/to-error.ts";
import { DomainError } from "../errors.ts";
import { noteArrival, notice } from "./age.ts";
import { checkNewTail, checkRepeat, digestOf, judge, nextEpoch, producerWindow, seal } from "./append-rules.ts";
import { batchesFrom, dropBefore, isOver, retainedFrom, seqAtTime } from "./lmdb-batches.ts";
import { collectGarbage, forgetPositions, forgetProducers, useNow } from "./lmdb-cleanup.ts";
import { StoreClaim } from "./lmdb-claim.ts";
import { decodeEncoded, encodeBatch } from "./lmdb-codec.ts";
import { Committer } from "./lmdb-commit.ts";
import type { Commit } from "./lmdb-commit.ts";
import { batchCost, positionCost, producerCost, streamCost } from "./lmdb-costs.ts";
import { openTables } from "./lmdb-env.ts";
import type { ProducerRow, StreamRow, Tables } from "./lmdb-env.ts";
import { upgrade } from "./lmdb-format.ts";
import { Headroom, minReserve } from "./lmdb-headroom.ts";
import { LiveStreams } from "./lmdb-live.ts";
import { makeStore, removeDrafts } from "./lmdb-make.ts";
import { lockStore } from "./lmdb-lock.ts";
import type { Ownership } from "./lmdb-lock.ts";
import { growthOf } from "./lmdb-page-bound.ts";
import { OwnerRequests } from "./owner-requests.ts";
import { OpenProducers } from "./open-producers.ts";
import { newUid } from "./identity.ts";
import { everything, firstBehind } from "./name-order.ts";
import { slice } from "./slice.ts";
import { changeRetention, recordsSize, requireUid } from "./store.ts";
import type {
  AppendInput,
  AppendResult,
  Appended,
  Appender,
  AppenderOptions,
  Claim,
  ClaimOptions,
  DiskState,
  Expectation,
  ListOptions,
  Metadata,
  NameRange,
  ReadOptions,
  ReadResult,
  Retention,
  RetentionChange,
  SealOptions,
  Store,
  StoredBatch,
  StreamInfo,
} from "./store.ts";

export interface LmdbStoreOptions {
  /** Made if it does not exist. */
  readonly dir: string;
  /** Bytes that everything in it may take, as `lmdb-costs.ts` counts them; what would go beyond fails with "store-full". */
  readonly maxBytes: number;
  /**
   * Bytes of the disk that appends leave free, and that are kept allocated in the file for deletes and trims, at most;
   * on a small disk an eighth of it. Default 1 MiB.
   */
  readonly diskReserve?: number;
  /** Milliseconds after which an idle producer is forgotten. */
  readonly producerTtlMs: number;
  /** Called with a sentence for what is no reason to fail, such as files that other users can read. */
  readonly onWarning?: (message: string) => void;
  /** Milliseconds since the Unix epoch. */
  readonly now?: () => number;
}

/** Rows that are read together, between two looks at the time. */
const rowsAtOnce = 100;

/**
 * Opens a store in a directory, for this process alone. Fails with
 * "store-locked", "store-corrupt", "store-unreadable", or "store-full" if the disk has no space for what a start writes.
 */
export async function openLmdbStore(options: LmdbStoreOptions): Promise<Store> {
  await makeStore(options.dir);
  const claim = await StoreClaim.take(options.dir);
  let tables: Tables;
  try {
    tables = openTables(options.dir, { warn: options.onWarning });
  } catch (error) {
    claim.close();
    throw error;
  }
  const onWarning = options.onWarning ?? (() => undefined);
  const requests = new OwnerRequests(tables, onWarning);
  try {
    const ownership = await lockStore(options.dir, tables, claim, requests.handle);
    let headroom: Headroom | undefined;
    try {
      headroom = new Headroom(tables, {
        dir: options.dir,
        reserve: options.diskReserve ?? minReserve,
        lostKey: ownership.lostKey,
        onWarning,
      });
      removeDrafts(options.dir);
      await headroom.prepare();
      await upgrade(tables, headroom, options.onWarning);
      return new LmdbStore(tables, ownership, headroom, requests, options);
    } catch (error) {
      await requests.close();
      await headroom?.close();
      ownership.release();
      throw error;
    }
  } catch (error) {
    claim.close();
    await tables.root.close();
    throw error;
  }
}

class LmdbStore implements Store {
  readonly durability = "disk";
  readonly #tables: Tables;
  readonly #committer: Committer;
  readonly #live: LiveStreams;
  readonly #ownership: Ownership;
  readonly #requests: OwnerRequests;
  readonly #headroom: Headroom;
  readonly #breaking = new AbortController();
  readonly #maxBytes: number;
  readonly #producerTtlMs: number;
  readonly #now: () => number;
  readonly #warn: (message: string) => void;
  /** Streams whose retention waits to be applied. */
  readonly #retaining = new Set<string>();
  /** "bytes" of the meta table. */
  #bytes: number;
  readonly #openProducers = new OpenProducers();
  /** Where the next sweep goes on with the producers. */
  #sweptTo: [number, string] | undefined;
  #collecting: Promise<void> | undefined;
  /** Deleted streams may have left something. */
  #hasGarbage = false;

  constructor(
    tables: Tables,
    ownership: Ownership,
    headroom: Headroom,
    requests: OwnerRequests,
    options: LmdbStoreOptions,
  ) {
    this.#tables = tables;
    this.#requests = requests;
    this.#ownership = ownership;
    this.#headroom = headroom;
    this.#live = new LiveStreams(
      (name) => tables.streams.get(name),
      () => !this.#committer.isFlushing,
    );
    this.#committer = new Committer({
      dir: options.dir,
      meta: tables.meta,
      lostKey: ownership.lostKey,
      complete: (commit) => {
        this.#countBytes(commit);
      },
      admit: (commit) => headroom.require(commit.purpose, growthOf(commit.changes)),
      onBroken: (failure) => {
        this.#breaking.abort(failure);
      },
    });
    this.#maxBytes = options.maxBytes;
    this.#producerTtlMs = options.producerTtlMs;
    this.#now = options.now ?? Date.now;
    this.#warn = options.onWarning ?? (() => undefined);
    this.#bytes = tables.meta.get("bytes") as number;
    this.#collect();
  }

  get disk(): DiskState {
    const { bytes, isShort, refusals } = this.#headroom;
    return { headroomBytes: bytes, isFull: isShort, refusals };
  }

  get broken(): AbortSignal {
    return this.#breaking.signal;
  }

  create(name: string, retention?: Retention, metadata?: Metadata): Promise<StreamInfo> {
    return this.#committer.submit((commit) => {
      if (commit.get(this.#tables.streams, name) !== undefined) {
        throw new DomainError({ kind: "stream-exists", stream: name });
      }
      return this.#add(commit, name, retention, metadata).info;
    });
  }

  update(name: string, change: RetentionChange, { expectedUid }: Expectation = {}): Promise<StreamInfo> {
    const { retained } = this.#tables;
    return this.#committer.submit((commit) => {
      const row = this.#rowIn(commit, name, expectedUid);
      const retention = changeRetention(row.info.retention, change);
      const info = { ...row.info, retention };
      this.#putRow(commit, { ...row, info });
      if (hasLimits(retention)) commit.put(retained, name, true);
      else commit.remove(retained, name);
      commit.after(() => {
        void this.#retain(name, this.#now());
      });
      return info;
    });
  }

  async get(name: string): Promise<StreamInfo> {
    return Promise.resolve(this.#row(name).info);
  }

  async list({ ranges = [everything], after, limit }: ListOptions, signal?: AbortSignal): Promise<StreamInfo[]> {
    this.broken.throwIfAborted();
    const found: StreamInfo[] = [];
    const slice = new TimeSlice(signal);
    slice.check();
    for (let at = after === undefined ? 0 : firstBehind(ranges, after); at < ranges.length; at++) {
      const { from, to } = ranges[at] as NameRange;
      let last = after !== undefined && after >= from ? after : undefined;
      for (let left = limit - found.length; left > 0; left = limit - found.length) {
        const rows = [
          ...this.#tables.streams.getRange({
            ...(last !== undefined ? { start: last, exclusiveStart: true } : from === "" ? {} : { start: from }),
            end: to,
            limit: Math.min(left, rowsAtOnce),
          }),
        ];
        for (const { value } of rows) found.push(value.info);
        if (slice.isOver) await slice.next();
        if (rows.length < Math.min(left, rowsAtOnce)) break;
        last = rows.at(-1)?.key;
      }
      if (found.length === limit) break;
    }
    return found;
  }

  async delete(name: string, { expectedUid }: Expectation = {}): Promise<void> {
    await this.#committer.submit((commit) => {
      const { id, stored, info } = this.#rowIn(commit, name, expectedUid);
      commit.remove(this.#tables.streams, name);
      if (hasLimits(info.retention)) commit.remove(this.#tables.retained, name);
      commit.put(this.#tables.garbage, id, true);
      commit.free(streamCost(info) + stored);
      commit.after(() => {
        this.#live.update(name, undefined);
      });
      commit.announce(() => {
        this.#live.wake(name);
      });
    });
    this.#collect();
  }

  async trim(
    name: string,
    beforeSeq: number,
    { signal, expectedUid }: Expectation & { signal?: AbortSignal } = {},
  ): Promise<StreamInfo> {
    const slice = new TimeSlice(signal);
    let uid = expectedUid;
    for (;;) {
      slice.check();
      const { info, done } = await this.#committer.submit((commit) => {
        const row = this.#rowIn(commit, name, uid);
        const { head, tail } = row.info;
        if (beforeSeq > tail) {
          throw new DomainError({ kind: "position-out-of-range", stream: name, seq: beforeSeq, head, tail });
        }
        if (beforeSeq <= head) return { info: row.info, done: true };
        return this.#drop(commit, row, beforeSeq);
      });
      if (done) return info;
      uid = info.uid;
    }
  }

  seal(name: string, options: SealOptions = {}): Promise<StreamInfo> {
    return this.#committer.submit((commit) => {
      const row = this.#rowIn(commit, name, options.expectedUid);
      const info = seal(row.info, options);
      this.#putRow(commit, { ...row, info });
      commit.announce(() => {
        this.#live.wake(name);
      });
      return info;
    });
  }

  async openAppender(options: AppenderOptions): Promise<Appender> {
    this.broken.throwIfAborted();
    const { stream, producer, expectedUid } = options;
    let row = this.#tables.streams.get(stream);
    if (row === undefined && options.createIfMissing === true && expectedUid === undefined) {
      checkNewTail(options);
      row = await this.#committer.submit(
        (commit) => commit.get(this.#tables.streams, stream) ?? this.#add(commit, stream),
      );
    }
    if (row === undefined) throw new DomainError({ kind: "stream-not-found", stream });
    requireUid(row.info, expectedUid);
    const state = producer && this.#tables.producers.get([row.id, producer.id]);
    const same = state?.epoch === producer?.epoch ? state : undefined;
    const began = same !== undefined && same.nextProducerSeq > 0;
    const { id, info } = row;
    let expectedSeq = options.expectedSeq;
    const leave = producer === undefined ? undefined : this.#openProducers.enter(id, producer.id);
    let usedAtMs = this.#now();
    let failure: Error | undefined;
    /** A refusal is final once its commit is durable: until then it holds for the later batches of the same commit. */
    let refused: { readonly commit: Commit; readonly error: Error } | undefined;
    return {
      uid: info.uid,
      tail: info.tail,
      firstSeq: began ? same.firstSeq : info.tail,
      ...(producer === undefined ? {} : { nextProducerSeq: same?.nextProducerSeq ?? 0 }),
      append: (input) => {
        usedAtMs = this.#now();
        const size = recordsSize(input.records);
        const stored = this.#committer.submit((commit) => {
          if (failure !== undefined) throw failure;
          if (refused?.commit === commit) throw refused.error;
          try {
            // It may have been deleted, and made again, since the appender was opened.
            const target = { row: this.#rowIn(commit, stream, info.uid), isNew: false };
            const result = this.#append(commit, target, options, input, size, expectedSeq);
            if (expectedSeq !== undefined) {
              const before = expectedSeq;
              commit.onFailure(() => {
                expectedSeq = before;
              });
              expectedSeq = result.nextSeq;
            }
            return result;
          } catch (error) {
            refused = { commit, error: toError(error) };
            throw refused.error;
          }
        }, size);
        // After a refusal, or a commit that fails with its appends, nothing later on this appender may be stored either.
        return stored.catch((error: unknown) => {
          failure ??= toError(error);
          throw failure;
        });
      },
      close: () => {
        leave?.();
        const isOld = this.#now() - usedAtMs > this.#producerTtlMs / 2;
        if (producer !== undefined && isOld) this.#keep(id, producer.id);
      },
    };
  }

  append(options: AppenderOptions, input: AppendInput): Promise<Appended> {
    const { stream, createIfMissing, expectedUid, expectedSeq } = options;
    const size = recordsSize(input.records);
    return this.#committer.submit((commit) => {
      const mayAdd = createIfMissing === true && expectedUid === undefined;
      const isNew = mayAdd && commit.get(this.#tables.streams, stream) === undefined;
      const row = isNew ? this.#newRow(commit, stream) : this.#rowIn(commit, stream, expectedUid);
      const result = this.#append(commit, { row, isNew }, options, input, size, expectedSeq);
      return { ...result, uid: row.info.uid };
    }, size);
  }

  claimProducer({ stream, createIfMissing, producerId, expectedUid }: ClaimOptions): Promise<Claim> {
    const { streams, producers } = this.#tables;
    return this.#committer.submit((commit) => {
      const missing = commit.get(streams, stream) === undefined;
      const mayAdd = missing && createIfMissing === true && expectedUid === undefined;
      const row = mayAdd ? this.#newRow(commit, stream) : this.#rowIn(commit, stream, expectedUid);
      const { id, info } = row;
      const state = commit.get(producers, [id, producerId]);
      const epoch = nextEpoch(row.claims, state);
      this.#grow(commit, (mayAdd ? streamCost(info) : 0) + (state === undefined ? producerCost(producerId) : 0));
      if (mayAdd) this.#addRow(commit, { ...row, claims: epoch });
      else this.#putRow(commit, { ...row, claims: epoch });
      forgetPositions(this.#tables, commit, [id, producerId], state);
      commit.put(producers, [id, producerId], {
        epoch,
        nextProducerSeq: 0,
        firstSeq: info.tail,
        lastTimeMs: this.#now(),
      });
      return { epoch, uid: info.uid };
    });
  }

  async read(name: string, fromSeq: number, options: ReadOptions): Promise<ReadResult> {
    const row = this.#row(name);
    const { info } = row;
    requireUid(info, options.expectedUid);
    const { head, tail } = info;
    if (fromSeq < head || fromSeq > tail) {
      throw new DomainError({ kind: "position-out-of-range", stream: name, seq: fromSeq, head, tail });
    }
    const batches =
      fromSeq === tail ? [] : (this.#live.batchesFrom(row, fromSeq) ?? batchesFrom(this.#tables, row, fromSeq));
    const { nextSeq, batches: found } = slice(batches, fromSeq, options);
    return Promise.resolve({ batches: found, nextSeq, info });
  }

  async seqAtTime(name: string, timeMs: number): Promise<number> {
    return Promise.resolve(seqAtTime(this.#tables, this.#row(name), timeMs));
  }

  watch(name: string, listener: () => void): () => void {
    return this.#live.watch(name, listener);
  }

  async sweep(nowMs: number, signal?: AbortSignal): Promise<void> {
    const slice = new TimeSlice(signal);
    slice.check();
    await this.#headroom.look();
    // Those that read a snapshot, such as a backup, may have been killed: what they saw would be kept for ever.
    this.#tables.root.readerCheck();
    // What could not be removed before.
    if (this.#hasGarbage) this.#collect();
    /** Streams with records from the future. */
    const ahead: string[] = [];
    let last: string | undefined;
    for (;;) {
      const range = { ...(last === undefined ? {} : { start: last, exclusiveStart: true }), limit: rowsAtOnce };
      const names = [...this.#tables.retained.getKeys(range)];
      const noticing: Promise<void>[] = [];
      for (const name of names) {
        const row = this.#tables.streams.get(name);
        // The sweep itself takes its time.
        const seenMs = Math.max(nowMs, this.#now());
        if (row !== undefined && notice(row.info, row.noticed, seenMs) !== undefined) {
          ahead.push(name);
          noticing.push(this.#noticeFuture(row, seenMs));
        }
        if (row !== undefined && retainedFrom(this.#tables, row, nowMs) > row.info.head) {
          await this.#retain(name, nowMs, signal);
        }
        if (slice.isOver) await slice.next();
      }
      await Promise.all(noticing);
      last = names.at(-1);
      if (names.length < rowsAtOnce) break;
    }
    if (ahead.length > 0) {
      this.#warn(
        `the clock has been ahead: ${ahead.length} ${ahead.length === 1 ? "stream has" : "streams have"} records from the future, such as "${ahead[0]}"; for max_age they count as stored now at the latest`,
      );
    }
    const idleSince = nowMs - this.#producerTtlMs;
    this.#sweptTo = await forgetProducers(
      this.#tables,
      this.#committer,
      { before: idleSince, nowMs, open: this.#openProducers },
      this.#sweptTo,
      slice,
    );
  }

  async close(): Promise<void> {
    await this.#committer.close();
    await this.#collecting;
    await this.#requests.close();
    await this.#headroom.close();
    this.#ownership.release();
    await this.#tables.root.close();
  }

  #row(name: string): StreamRow {
    this.broken.throwIfAborted();
    const row = this.#live.row(name);
    if (row === undefined) throw new DomainError({ kind: "stream-not-found", stream: name });
    return row;
  }

  #rowIn(commit: Commit, name: string, expectedUid?: string): StreamRow {
    const row = commit.get(this.#tables.streams, name);
    if (row === undefined) throw new DomainError({ kind: "stream-not-found", stream: name });
    requireUid(row.info, expectedUid);
    return row;
  }

  #add(commit: Commit, name: string, retention: Retention = {}, metadata?: Metadata): StreamRow {
    const row = this.#newRow(commit, name, retention, metadata);
    this.#grow(commit, streamCost(row.info));
    this.#addRow(commit, row);
    return row;
  }

  /** Returns the row of a stream that is to be made, and writes nothing. */
  #newRow(commit: Commit, name: string, retention: Retention = {}, metadata?: Metadata): StreamRow {
    const id = (commit.get(this.#tables.meta, "nextId") as number | undefined) ?? 1;
    const createTimeMs = this.#now();
    const info = { name, uid: newUid(), head: 0, tail: 0, bytes: 0, sealed: false, createTimeMs, retention };
    return { id, newest: 0, stored: 0, info: metadata === undefined ? info : { ...info, metadata } };
  }

  #addRow(commit: Commit, row: StreamRow): void {
    const { name, retention } = row.info;
    commit.put(this.#tables.meta, "nextId", row.id + 1);
    this.#putRow(commit, row);
    if (hasLimits(retention)) commit.put(this.#tables.retained, name, true);
  }

  /** Stores the row; `batch` gives what has been appended with it. */
  #putRow(commit: Commit, row: StreamRow, batch?: () => StoredBatch): void {
    const { name } = row.info;
    commit.put(this.#tables.streams, name, row, metadataBytes(row.info.metadata));
    commit.after(() => {
      this.#live.update(name, row, batch);
    });
  }

  /** Keeps the total in the same transaction as what changes it. */
  #countBytes(commit: Commit): void {
    const { bytes } = commit;
    if (bytes === 0) return;
    const total = Math.max(0, this.#bytes + bytes);
    commit.put(this.#tables.meta, "bytes", total);
    commit.after(() => {
      this.#bytes = total;
    });
  }

  /** Throws "store-full" if so many bytes more are too many. To be called before the operation has written anything. */
  #grow(commit: Commit, bytes: number): void {
    if (bytes > 0 && this.#bytes + commit.addedBytes + bytes > this.#maxBytes) {
      throw new DomainError({ kind: "store-full", detail: "--max-store-bytes is reached: delete or trim streams" });
    }
    commit.grows();
    commit.add(bytes);
  }

  /** A row that is new is stored with the batch. */
  #append(
    commit: Commit,
    { row, isNew }: { readonly row: StreamRow; readonly isNew: boolean },
    { stream, producer }: AppenderOptions,
    input: AppendInput,
    size: number,
    expectedSeq: number | undefined,
  ): AppendResult {
    const { batches, producers, positions } = this.#tables;
    const { id } = row;
    const state = producer && commit.get(producers, [id, producer.id]);
    const check = { info: row.info, input, producer, state, expectedSeq, nowMs: this.#now() };
    const verdict = judge(check);
    if (verdict.kind === "duplicate") {
      const stored = producer && commit.get(positions, [id, producer.id, verdict.producerSeq]);
      if (stored === undefined) throw new Error("a producer's batch was forgotten within its window");
      checkRepeat(check, stored[2], digestOf(input));
      return { firstSeq: stored[0], nextSeq: stored[1], duplicate: true };
    }
    const { firstSeq, nextSeq, timeMs } = verdict;
    const { records } = input;
    const encoded =
      records.length === 0 ? undefined : encodeBatch([id, firstSeq], { timeMs, arrivalMs: check.nowMs }, records);
    const batchBytes = encoded === undefined ? 0 : batchCost(encoded.byteLength);
    const producerBytes =
      producer === undefined ? 0 : positionCost(producer.id) + (state === undefined ? producerCost(producer.id) : 0);
    const cost = batchBytes + producerBytes + (isNew ? streamCost(row.info) : 0);
    // A stream can be sealed in a full store.
    if (encoded === undefined && !isNew) commit.add(cost);
    else this.#grow(commit, cost);
    if (isNew) this.#addRow(commit, row);
    let { info } = row;
    if (encoded !== undefined) {
      commit.put(batches, [id, firstSeq], encoded);
      info = { ...info, tail: nextSeq, bytes: info.bytes + size, appendTimeMs: timeMs };
    }
    if (input.seal !== undefined)
      info = seal(info, input.seal.checksum === undefined ? {} : { checksum: input.seal.checksum });
    this.#putRow(
      commit,
      {
        ...row,
        newest: encoded === undefined ? row.newest : firstSeq,
        stored: row.stored + batchBytes,
        ...(row.noticed === undefined ? {} : { noticed: noteArrival(row.noticed, check.nowMs) }),
        info,
      },
      encoded && (() => decodeEncoded([id, firstSeq], encoded)),
    );
    if (producer !== undefined && input.producerSeq !== undefined) {
      const { producerSeq } = input;
      const isSame = state?.epoch === producer.epoch;
      const next: ProducerRow = {
        epoch: producer.epoch,
        nextProducerSeq: producerSeq + 1,
        firstSeq: isSame && producerSeq > 0 ? state.firstSeq : firstSeq,
        lastTimeMs: check.nowMs,
      };
      const key: [number, string] = [id, producer.id];
      if (!isSame) forgetPositions(this.#tables, commit, key, state);
      commit.put(producers, key, next);
      commit.put(positions, [...key, producerSeq], [firstSeq, nextSeq, digestOf(input, encoded)]);
      if (producerSeq >= producerWindow) {
        commit.remove(positions, [...key, producerSeq - producerWindow]);
        commit.free(positionCost(producer.id));
      }
    }
    commit.announce(() => {
      this.#live.wake(stream);
      if (isOver(info, row.newest)) void this.#retain(stream, this.#now());
    });
    return { firstSeq, nextSeq, duplicate: false };
  }

  /** Counts a producer as idle from now on, and not since its last batch. */
  #keep(id: number, producerId: string): void {
    void useNow(this.#tables, this.#committer, [id, producerId], this.#now());
  }

  #drop(commit: Commit, before: StreamRow, beforeSeq: number): { info: StreamInfo; done: boolean } {
    const { row, done, freed } = dropBefore(this.#tables, commit, before, beforeSeq);
    this.#putRow(commit, row);
    commit.free(freed);
    return { info: row.info, done };
  }

  /** Lets records age whose times are in the future, because the clock has been ahead. */
  async #noticeFuture(row: StreamRow, nowMs: number): Promise<void> {
    try {
      await this.#committer.submit((commit) => {
        const current = commit.get(this.#tables.streams, row.info.name);
        if (current?.id !== row.id) return;
        const noticed = notice(current.info, current.noticed, nowMs);
        if (noticed !== undefined) this.#putRow(commit, { ...current, noticed });
      });
    } catch (error) {
      // The next sweep tries it again.
      if (!(error instanceof DomainError)) throw error;
    }
  }

  /** Removes whole batches from the head while the stream is over its retention; the newest always stays. */
  async #retain(name: string, nowMs: number, signal?: AbortSignal): Promise<void> {
    if (this.#retaining.has(name)) return;
    this.#retaining.add(name);
    try {
      for (let done = false; !done;) {
        signal?.throwIfAborted();
        done = await this.#committer.submit((commit) => {
          this.#retaining.delete(name);
          const row = commit.get(this.#tables.streams, name);
          if (row === undefined) return true;
          const keepFrom = retainedFrom(this.#tables, row, nowMs);
          if (keepFrom <= row.info.head) return true;
          // Both look at a limited number of batches: there may be more to remove.
          this.#drop(commit, row, keepFrom);
          return false;
        });
      }
    } catch (error) {
      // It is tried again at the next append or sweep, which report what is wrong with the store.
      if (!(error instanceof DomainError)) throw error;
    } finally {
      this.#retaining.delete(name);
    }
  }

  /** Removes what deleted streams have left. A store that is closed, or could not write, goes on with it later. */
  #collect(): void {
    this.#hasGarbage = true;
    this.#collecting ??= this.#collectAll()
      .catch(() => {
        this.#hasGarbage = true;
      })
      .finally(() => {
        this.#collecting = undefined;
      });
  }

  async #collectAll(): Promise<void> {
    // More may have been deleted while the last of the rest was removed.
    while (this.#hasGarbage) {
      this.#hasGarbage = false;
      await collectGarbage(this.#tables, this.#committer);
    }
  }
}

function hasLimits(retention: Retention): boolean {
  return Object.keys(retention).length > 0;
}

/** What metadata takes in a row, in bytes, at most: three for each UTF-16 unit, and the lengths. */
function metadataBytes(metadata: Metadata = {}): number {
  let bytes = 0;
  for (const [key, value] of Object.entries(metadata)) bytes += 3 * (key.length + value.length) + 8;
  return bytes;
}
