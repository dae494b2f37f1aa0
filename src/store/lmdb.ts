import { toError } from "../async/to-error.ts";
import { DomainError } from "../errors.ts";
import { judge, producerWindow, seal } from "./append-rules.ts";
import { batchStart, batchesFrom, dropBefore, isOver, retainedFrom } from "./lmdb-batches.ts";
import { collectGarbage, forgetProducers } from "./lmdb-cleanup.ts";
import { decodeHead, encodeBatch } from "./lmdb-codec.ts";
import { Committer } from "./lmdb-commit.ts";
import type { Commit } from "./lmdb-commit.ts";
import { openTables } from "./lmdb-env.ts";
import type { ProducerRow, StreamRow, Tables } from "./lmdb-env.ts";
import { lockStore } from "./lmdb-lock.ts";
import { slice } from "./slice.ts";
import { recordSize } from "./store.ts";
import type {
  AppendInput,
  AppendResult,
  Appender,
  AppenderOptions,
  ListOptions,
  ReadOptions,
  ReadResult,
  Retention,
  SealChecksum,
  Store,
  StreamInfo,
} from "./store.ts";
import { Waiters } from "./waiters.ts";

export interface LmdbStoreOptions {
  /** Made if it does not exist. */
  readonly dir: string;
  /** Bytes that the records of all streams may take; an append beyond fails with "store-full". */
  readonly maxBytes: number;
  /** Milliseconds after which an idle producer is forgotten. */
  readonly producerTtlMs: number;
  /** Called with a sentence for what is no reason to fail, such as files that other users can read. */
  readonly onWarning?: (message: string) => void;
  /** Milliseconds since the Unix epoch. */
  readonly now?: () => number;
}

/** What a batch takes besides its records, about, in bytes. */
const batchOverhead = 64;

/**
 * Opens a store in a directory, for this process alone. Fails with
 * "store-locked", "store-corrupt" or "store-unreadable".
 */
export async function openLmdbStore(options: LmdbStoreOptions): Promise<Store> {
  const tables = openTables(options.dir, options.onWarning);
  try {
    const unlock = await lockStore(options.dir, tables);
    return new LmdbStore(tables, unlock, options);
  } catch (error) {
    await tables.root.close();
    throw error;
  }
}

class LmdbStore implements Store {
  readonly durability = "disk";
  readonly #tables: Tables;
  readonly #committer: Committer;
  readonly #waiters = new Waiters();
  readonly #unlock: () => void;
  readonly #maxBytes: number;
  readonly #producerTtlMs: number;
  readonly #now: () => number;
  /** Streams whose retention waits to be applied. */
  readonly #retaining = new Set<string>();
  #bytes = 0;
  #collecting: Promise<void> | undefined;

  constructor(tables: Tables, unlock: () => void, options: LmdbStoreOptions) {
    this.#tables = tables;
    this.#unlock = unlock;
    this.#committer = new Committer(tables.root, options.dir);
    this.#maxBytes = options.maxBytes;
    this.#producerTtlMs = options.producerTtlMs;
    this.#now = options.now ?? Date.now;
    for (const { value } of tables.streams.getRange({})) this.#bytes += value.info.bytes;
    this.#collect();
  }

  create(name: string, retention: Retention = {}): Promise<StreamInfo> {
    return this.#committer.submit((commit) => {
      if (commit.get(this.#tables.streams, name) !== undefined) {
        throw new DomainError({ kind: "stream-exists", stream: name });
      }
      return this.#add(commit, name, retention).info;
    });
  }

  async get(name: string): Promise<StreamInfo> {
    return Promise.resolve(this.#row(name).info);
  }

  async list({ prefix = "", after, limit }: ListOptions): Promise<StreamInfo[]> {
    const found: StreamInfo[] = [];
    const start = after !== undefined && after > prefix ? after : prefix;
    for (const { key, value } of this.#tables.streams.getRange(start === "" ? {} : { start })) {
      if (!key.startsWith(prefix)) break;
      if (key === after) continue;
      if (found.push(value.info) === limit) break;
    }
    return Promise.resolve(found);
  }

  async delete(name: string): Promise<void> {
    await this.#committer.submit((commit) => {
      const { id, info } = this.#rowIn(commit, name);
      commit.remove(this.#tables.streams, name);
      commit.put(this.#tables.garbage, id, true);
      commit.after(() => {
        this.#bytes -= info.bytes;
        this.#waiters.wake(name);
      });
    });
    this.#collect();
  }

  async trim(name: string, beforeSeq: number): Promise<StreamInfo> {
    for (;;) {
      const { info, done } = await this.#committer.submit((commit) => {
        const row = this.#rowIn(commit, name);
        const { head, tail } = row.info;
        if (beforeSeq > tail) {
          throw new DomainError({ kind: "position-out-of-range", stream: name, seq: beforeSeq, head, tail });
        }
        if (beforeSeq <= head) return { info: row.info, done: true };
        return this.#drop(commit, row, beforeSeq);
      });
      if (done) return info;
    }
  }

  seal(name: string, options: { expectedSeq?: number; checksum?: SealChecksum } = {}): Promise<StreamInfo> {
    return this.#committer.submit((commit) => {
      const row = this.#rowIn(commit, name);
      const info = seal(row.info, options);
      commit.put(this.#tables.streams, name, { ...row, info });
      commit.after(() => {
        this.#waiters.wake(name);
      });
      return info;
    });
  }

  async openAppender(options: AppenderOptions): Promise<Appender> {
    const { stream, producer } = options;
    let row = this.#tables.streams.get(stream);
    if (row === undefined && options.createIfMissing === true) {
      row = await this.#committer.submit(
        (commit) => commit.get(this.#tables.streams, stream) ?? this.#add(commit, stream, {}),
      );
    }
    if (row === undefined) throw new DomainError({ kind: "stream-not-found", stream });
    const state = producer && this.#tables.producers.get([row.id, producer.id]);
    const same = state?.epoch === producer?.epoch ? state : undefined;
    const { id, info } = row;
    let expectedSeq = options.expectedSeq;
    let failure: Error | undefined;
    return {
      tail: info.tail,
      firstSeq: same?.firstSeq ?? info.tail,
      ...(producer === undefined ? {} : { nextProducerSeq: same?.nextProducerSeq ?? 0 }),
      append: (input) => {
        let size = 0;
        for (const record of input.records) size += recordSize(record);
        const stored = this.#committer.submit((commit) => {
          if (failure !== undefined) throw failure;
          try {
            const result = this.#append(commit, id, options, input, size, expectedSeq);
            if (expectedSeq !== undefined) expectedSeq = result.nextSeq;
            return result;
          } catch (error) {
            failure = toError(error);
            throw failure;
          }
        }, size);
        // A commit that fails takes its appends with it: nothing later on this appender may be stored either.
        return stored.catch((error: unknown) => {
          failure ??= toError(error);
          throw failure;
        });
      },
    };
  }

  async read(name: string, fromSeq: number, options: ReadOptions): Promise<ReadResult> {
    const { id, info } = this.#row(name);
    if (options.generation !== undefined && options.generation !== id) {
      throw new DomainError({ kind: "stream-not-found", stream: name });
    }
    const { head, tail } = info;
    if (fromSeq < head || fromSeq > tail) {
      throw new DomainError({ kind: "position-out-of-range", stream: name, seq: fromSeq, head, tail });
    }
    const found = slice(batchesFrom(this.#tables, id, fromSeq, tail), fromSeq, options);
    return Promise.resolve({ ...found, info, generation: id });
  }

  async seqAtTime(name: string, timeMs: number): Promise<number> {
    const { id, info } = this.#row(name);
    // The times of batches never go backwards: search for the first that is late enough.
    let low = info.head;
    let high = info.tail;
    while (low < high) {
      const middle = low + Math.floor((high - low) / 2);
      const firstSeq = batchStart(this.#tables, id, middle) ?? info.head;
      const bytes = this.#tables.batches.get([id, firstSeq]);
      if (bytes === undefined) return Promise.resolve(info.tail);
      const { timeMs: stored, count } = decodeHead(bytes);
      if (stored >= timeMs) high = Math.max(low, Math.min(firstSeq, middle));
      else low = firstSeq + count;
      if (stored >= timeMs && firstSeq <= low) break;
    }
    return Promise.resolve(Math.max(low, info.head));
  }

  async waitForChange(name: string, tail: number, signal: AbortSignal): Promise<void> {
    const row = this.#tables.streams.get(name);
    if (row === undefined || row.info.tail !== tail || row.info.sealed) return;
    await this.#waiters.wait(name, signal);
  }

  async sweep(nowMs: number): Promise<void> {
    let after: string | undefined;
    for (;;) {
      const page = await this.list({ limit: 100, ...(after === undefined ? {} : { after }) });
      for (const { name, retention } of page) {
        if (Object.keys(retention).length > 0) await this.#retain(name, nowMs);
      }
      after = page.at(-1)?.name;
      if (after === undefined) break;
      await new Promise(setImmediate);
    }
    await forgetProducers(this.#tables, this.#committer, nowMs - this.#producerTtlMs);
  }

  async close(): Promise<void> {
    await this.#committer.close();
    await this.#collecting;
    this.#unlock();
    await this.#tables.root.close();
  }

  #row(name: string): StreamRow {
    const row = this.#tables.streams.get(name);
    if (row === undefined) throw new DomainError({ kind: "stream-not-found", stream: name });
    return row;
  }

  #rowIn(commit: Commit, name: string): StreamRow {
    const row = commit.get(this.#tables.streams, name);
    if (row === undefined) throw new DomainError({ kind: "stream-not-found", stream: name });
    return row;
  }

  #add(commit: Commit, name: string, retention: Retention): StreamRow {
    const { meta, streams } = this.#tables;
    const id = (commit.get(meta, "nextId") as number | undefined) ?? 1;
    commit.put(meta, "nextId", id + 1);
    const info = { name, head: 0, tail: 0, bytes: 0, sealed: false, createTimeMs: this.#now(), retention };
    const row = { id, newest: 0, info };
    commit.put(streams, name, row);
    return row;
  }

  #append(
    commit: Commit,
    id: number,
    { stream, producer }: AppenderOptions,
    input: AppendInput,
    size: number,
    expectedSeq: number | undefined,
  ): AppendResult {
    const { streams, batches, producers, positions } = this.#tables;
    const row = this.#rowIn(commit, stream);
    // The stream was deleted, and made again, since the appender was opened.
    if (row.id !== id) throw new DomainError({ kind: "stream-not-found", stream });
    const state = producer && commit.get(producers, [id, producer.id]);
    const verdict = judge({ info: row.info, input, producer, state, expectedSeq, nowMs: this.#now() });
    if (verdict.kind === "duplicate") {
      const stored = producer && commit.get(positions, [id, producer.id, verdict.producerSeq]);
      if (stored === undefined) throw new Error("a producer's batch was forgotten within its window");
      return { firstSeq: stored[0], nextSeq: stored[1], duplicate: true };
    }
    const { firstSeq, nextSeq, timeMs } = verdict;
    if (size > 0 && this.#bytes + size + batchOverhead > this.#maxBytes) {
      throw new DomainError({ kind: "store-full", detail: "--max-store-bytes is reached: delete or trim streams" });
    }
    let { info } = row;
    if (input.records.length > 0) {
      commit.put(batches, [id, firstSeq], encodeBatch(timeMs, input.records));
      info = { ...info, tail: nextSeq, bytes: info.bytes + size, appendTimeMs: timeMs };
    }
    if (input.seal !== undefined)
      info = seal(info, input.seal.checksum === undefined ? {} : { checksum: input.seal.checksum });
    commit.put(streams, stream, { id, newest: input.records.length > 0 ? firstSeq : row.newest, info });
    if (producer !== undefined && input.producerSeq !== undefined) {
      const { producerSeq } = input;
      const next: ProducerRow = {
        epoch: producer.epoch,
        nextProducerSeq: producerSeq + 1,
        firstSeq: state?.epoch === producer.epoch ? state.firstSeq : firstSeq,
        lastTimeMs: timeMs,
      };
      commit.put(producers, [id, producer.id], next);
      commit.put(positions, [id, producer.id, producerSeq], [firstSeq, nextSeq]);
      if (producerSeq >= producerWindow) commit.remove(positions, [id, producer.id, producerSeq - producerWindow]);
    }
    // Counted at once, so that the appends of one commit cannot pass the limit together.
    this.#bytes += size;
    commit.onFailure(() => {
      this.#bytes -= size;
    });
    commit.after(() => {
      this.#waiters.wake(stream);
      if (isOver(info, row.newest)) void this.#retain(stream, this.#now());
    });
    return { firstSeq, nextSeq, duplicate: false };
  }

  #drop(commit: Commit, row: StreamRow, beforeSeq: number): { info: StreamInfo; done: boolean } {
    const { info, done, freed } = dropBefore(this.#tables, commit, row, beforeSeq);
    commit.after(() => {
      this.#bytes -= freed;
    });
    return { info, done };
  }

  /** Removes whole batches from the head while the stream is over its retention; the newest always stays. */
  async #retain(name: string, nowMs: number): Promise<void> {
    if (this.#retaining.has(name)) return;
    this.#retaining.add(name);
    try {
      for (let done = false; !done;) {
        done = await this.#committer.submit((commit) => {
          this.#retaining.delete(name);
          const row = commit.get(this.#tables.streams, name);
          if (row === undefined) return true;
          const keepFrom = retainedFrom(this.#tables, row, nowMs);
          return keepFrom <= row.info.head || this.#drop(commit, row, keepFrom).done;
        });
      }
    } catch (error) {
      // It is tried again at the next append or sweep, which report what is wrong with the store.
      if (!(error instanceof DomainError)) throw error;
    } finally {
      this.#retaining.delete(name);
    }
  }

  /** Removes what deleted streams have left. A store that is closed, or full, goes on with it later. */
  #collect(): void {
    this.#collecting ??= collectGarbage(this.#tables, this.#committer)
      .catch(() => undefined)
      .finally(() => {
        this.#collecting = undefined;
      });
  }
}
