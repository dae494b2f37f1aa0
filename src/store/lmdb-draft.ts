import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { newUid } from "./identity.ts";
import { decodeHead, encodeBatch, hasChecksum } from "./lmdb-codec.ts";
import { Committer } from "./lmdb-commit.ts";
import type { Commit } from "./lmdb-commit.ts";
import { batchCost, positionCost, producerCost, streamCost } from "./lmdb-costs.ts";
import { openTables, unusable } from "./lmdb-env.ts";
import type { StreamRow, Tables } from "./lmdb-env.ts";
import { Headroom, minReserve } from "./lmdb-headroom.ts";
import { draftPrefix, flushFile } from "./lmdb-make.ts";
import { growthOf } from "./lmdb-page-bound.ts";
import type { Entry } from "./lmdb-snapshot.ts";
import type { StoredBatch } from "./store.ts";
import { recordSize } from "./store.ts";

/** What one commit takes, at most. */
const commitRows = 1000;
const commitBytes = 4 * 1024 * 1024;
/** Nobody takes a draft over. */
const lostKey = "lost/draft";

/** The stream whose entries are being added. */
interface Current {
  readonly row: StreamRow;
  stored: number;
  /** Of the records from the head on; undefined: some are damaged, and their size is not known. */
  bytes: number | undefined;
}

/** A store that is made in a directory beside its place, out of the entries of another one. */
export class Draft {
  readonly #dir: string;
  readonly #path: string;
  readonly #tables: Tables;
  readonly #headroom: Headroom;
  readonly #committer: Committer;
  readonly #newUids: boolean;
  #waiting: ((commit: Commit) => void)[] = [];
  #waitingBytes = 0;
  #current: Current | undefined;
  #bytes = 0;
  #lastId = 0;
  #isClosed = false;

  /** `newUids`: the streams are not those that they are made of, for whoever reads or appends. */
  constructor(dir: string, { newUids }: { readonly newUids: boolean }) {
    this.#newUids = newUids;
    try {
      this.#dir = mkdtempSync(join(dir, draftPrefix));
    } catch (cause) {
      throw unusable(dir, cause);
    }
    this.#path = join(this.#dir, "data.mdb");
    try {
      this.#tables = openTables(dir, { at: this.#dir });
    } catch (error) {
      rmSync(this.#dir, { recursive: true, force: true });
      throw error;
    }
    const { meta } = this.#tables;
    const headroom = new Headroom(this.#tables, {
      dir: this.#dir,
      reserve: minReserve,
      lostKey,
      onWarning: () => undefined,
    });
    this.#headroom = headroom;
    this.#committer = new Committer({
      dir,
      meta,
      lostKey,
      complete: () => undefined,
      admit: (commit) => headroom.require("growth", growthOf(commit.changes)),
      onBroken: () => undefined,
    });
  }

  /** `batch`: of an entry that has one, unless it is damaged. A damaged one is kept as it is, for whoever can mend it. */
  async add(entry: Entry, batch: StoredBatch | undefined): Promise<void> {
    const { batches, producers, positions } = this.#tables;
    switch (entry.kind) {
      case "stream":
        this.#endStream();
        this.#lastId = Math.max(this.#lastId, entry.row.id);
        this.#current = { row: entry.row, stored: 0, bytes: 0 };
        break;
      case "batch": {
        const value = withChecksum(entry, batch);
        this.#count(value, batch);
        this.#put(value.byteLength, (commit) => {
          commit.put(batches, [...entry.key], value);
        });
        break;
      }
      case "producer": {
        const { streamId, id, row } = entry;
        this.#bytes += producerCost(id) + entry.positions.length * positionCost(id);
        this.#put(0, (commit) => {
          commit.put(producers, [streamId, id], row);
        });
        for (const [producerSeq, ...position] of entry.positions) {
          this.#put(0, (commit) => {
            commit.put(positions, [streamId, id, producerSeq], position);
          });
        }
      }
    }
    if (this.#waiting.length >= commitRows || this.#waitingBytes >= commitBytes) await this.#commit();
  }

  /** Completes the store, and resolves with the path of its file once all of it is on the disk. */
  async finish(): Promise<string> {
    const { meta } = this.#tables;
    this.#endStream();
    this.#put(0, (commit) => {
      commit.put(meta, "nextId", this.#lastId + 1);
      commit.put(meta, "bytes", this.#bytes);
    });
    await this.#commit();
    await this.#close();
    flushFile(this.#path);
    return this.#path;
  }

  /** Removes what is still in the draft's own place. */
  async discard(): Promise<void> {
    await this.#close();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #endStream(): void {
    if (this.#current === undefined) return;
    const { row, stored, bytes } = this.#current;
    const { streams, retained } = this.#tables;
    // Streams of the formats before 3 have no uid.
    const uid = this.#newUids ? newUid() : ((row.info.uid as string | undefined) ?? newUid());
    const info = { ...row.info, uid, bytes: bytes ?? row.info.bytes };
    this.#bytes += stored + streamCost(info);
    this.#put(0, (commit) => {
      commit.put(streams, info.name, { ...row, stored, info }, streamCost(info));
      if (Object.keys(info.retention).length > 0) commit.put(retained, info.name, true);
    });
    this.#current = undefined;
  }

  #count(value: Buffer, batch: StoredBatch | undefined): void {
    const current = this.#current;
    if (current === undefined) return;
    current.stored += batchCost(value.byteLength);
    if (batch === undefined) current.bytes = undefined;
    if (batch === undefined || current.bytes === undefined) return;
    const kept = batch.records.slice(Math.max(0, current.row.info.head - batch.firstSeq));
    for (const record of kept) current.bytes += recordSize(record);
  }

  #put(bytes: number, run: (commit: Commit) => void): void {
    this.#waiting.push(run);
    this.#waitingBytes += bytes;
  }

  async #commit(): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    await this.#committer.submit((commit) => {
      commit.grows();
      for (const run of waiting) run(commit);
    });
  }

  async #close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#committer.close();
    await this.#headroom.close();
    await this.#tables.root.close();
  }
}

/** The batch as it is stored today: those of the formats before 4 have no checksum. */
function withChecksum({ key, value }: Extract<Entry, { kind: "batch" }>, batch: StoredBatch | undefined): Buffer {
  if (batch === undefined || hasChecksum(value)) return value;
  return encodeBatch(key, decodeHead(key, value), batch.records);
}
