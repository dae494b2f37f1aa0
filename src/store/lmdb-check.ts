import { TimeSlice } from "../async/time-slice.ts";
import type { Totals } from "./archive.ts";
import { producerWindow } from "./append-rules.ts";
import { hasChecksum } from "./lmdb-codec.ts";
import { batchCost, positionCost, producerCost, streamCost } from "./lmdb-costs.ts";
import type { StreamRow } from "./lmdb-env.ts";
import type { Snapshot } from "./lmdb-snapshot.ts";
import { recordSize } from "./store.ts";
import { Tally } from "./tally.ts";

/** Something in a store that is not as it should be. */
export interface Finding {
  /** Absent: it is no stream's. */
  readonly stream?: string;
  /** Where in the stream. */
  readonly seq?: number;
  readonly detail: string;
}

/** What a check has come to. */
export interface CheckResult extends Totals {
  readonly format: number;
  /** Batches that were stored before there were checksums. */
  readonly withoutChecksum: number;
  readonly findings: number;
}

/** From this format on there are the totals that a check compares. */
const totalsFrom = 4;

export interface CheckOptions {
  readonly signal: AbortSignal;
  /** Called with how much has been read, and with about how much there is, in bytes. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  /** Called with each finding. */
  readonly onFinding: (finding: Finding) => Promise<void>;
}

/** Compares each stream of a snapshot with its batches, each batch with its checksum, and all counts with what they count. */
export class Check {
  readonly #snapshot: Snapshot;
  readonly #options: CheckOptions;
  readonly #slice: TimeSlice;
  readonly #tally = new Tally();
  /** Names by id. */
  readonly #names = new Map<number, string>();
  /** Ids of deleted streams, whose rest is still to be removed. */
  readonly #garbage = new Set<number>();
  readonly #aboutBytes: number;
  #cost = 0;
  #findings = 0;
  #withoutChecksum = 0;

  constructor(snapshot: Snapshot, options: CheckOptions) {
    this.#snapshot = snapshot;
    this.#options = options;
    this.#slice = new TimeSlice(options.signal);
    this.#aboutBytes = Number(snapshot.meta("bytes") ?? 0);
  }

  async run(): Promise<CheckResult> {
    const { format } = this.#snapshot;
    for (const { key } of this.#snapshot.rows("garbage")) this.#garbage.add(key);
    await this.#streams();
    await this.#orphans();
    await this.#producers();
    if (format >= totalsFrom && this.#cost !== this.#snapshot.meta("bytes")) {
      const detail = `the total is ${String(this.#snapshot.meta("bytes"))} bytes, and what is there adds up to ${this.#cost}`;
      await this.#found({ detail });
    }
    const { totals } = this.#tally;
    return { ...totals, format, withoutChecksum: this.#withoutChecksum, findings: this.#findings };
  }

  async #found(finding: Finding): Promise<void> {
    this.#findings++;
    await this.#options.onFinding(finding);
  }

  async #rest(): Promise<void> {
    const { bytes } = this.#tally.totals;
    this.#options.onProgress?.(bytes, Math.max(bytes, this.#aboutBytes));
    if (this.#slice.isOver) await this.#slice.next();
  }

  async #streams(): Promise<void> {
    const nextId = Number(this.#snapshot.meta("nextId") ?? 1);
    const retained = new Set<string>();
    for (const { key } of this.#snapshot.rows("retained")) retained.add(key);
    for (const { key: name, value: row } of this.#snapshot.rows("streams")) {
      const { id, info } = row;
      const found = (detail: string): Promise<void> => this.#found({ stream: name, detail });
      if (info.name !== name) await found(`it is stored under this name, and has the name "${info.name}"`);
      const other = this.#names.get(id);
      if (other !== undefined) await found(`it has the id ${id}, as the stream "${other}" has`);
      if (id >= nextId) await found(`it has the id ${id}, which the next new stream will have`);
      if (this.#garbage.has(id)) await found("it is being removed, as if it were deleted");
      const hasLimits = Object.keys(info.retention).length > 0;
      if (hasLimits !== retained.delete(name) && this.#snapshot.format > 1) {
        await found(hasLimits ? "its retention is not applied" : "it has no retention, and is listed as if it had");
      }
      this.#names.set(id, name);
      this.#tally.add({ kind: "stream", row });
      this.#cost += streamCost(info);
      await this.#batches(name, row);
    }
    for (const name of retained) await this.#found({ stream: name, detail: "it is not there, and its retention is" });
  }

  async #batches(name: string, row: StreamRow): Promise<void> {
    const { id, newest, info } = row;
    const { head, tail } = info;
    const found = (detail: string, seq?: number): Promise<void> =>
      this.#found({ stream: name, ...(seq === undefined ? {} : { seq }), detail });
    if (head > tail) await found(`its head ${head} is beyond its tail ${tail}`);
    let next: number | undefined;
    let last: number | undefined;
    let lastTimeMs = -Infinity;
    let stored = 0;
    let bytes = 0;
    let isDamaged = false;
    for (const { key, value } of this.#snapshot.rows("batches", { start: [id], end: [id + 1] })) {
      const firstSeq = key[1];
      if (next === undefined ? firstSeq > head : firstSeq > next) {
        await found(`records are missing up to seq ${firstSeq}`, next ?? head);
        isDamaged = true;
      } else if (next !== undefined && firstSeq < next) await found("two batches have the same records", firstSeq);
      if (!hasChecksum(value)) this.#withoutChecksum++;
      const batch = this.#tally.add({ kind: "batch", key, value });
      stored += batchCost(value.byteLength);
      last = firstSeq;
      if (batch === undefined) {
        await found("its batch is not as it was stored", firstSeq);
        isDamaged = true;
        // Where it ended is not known.
        next = this.#nextBatch(id, firstSeq, tail);
      } else {
        next = firstSeq + batch.records.length;
        if (next <= head) await found("a batch was left that has been trimmed", firstSeq);
        if (batch.timeMs < lastTimeMs) await found("its time is before that of the batch in front of it", firstSeq);
        lastTimeMs = batch.timeMs;
        for (const record of batch.records.slice(Math.max(0, head - firstSeq))) bytes += recordSize(record);
      }
      await this.#rest();
    }
    if ((next ?? head) < tail) await found(`records are missing up to its tail ${tail}`, next ?? head);
    if (next !== undefined && next > tail) await found(`it has records beyond its tail ${tail}`, tail);
    if (last !== undefined && last !== newest) await found(`its newest batch is that at seq ${last}, not ${newest}`);
    if (!isDamaged && bytes !== info.bytes) await found(`it says ${info.bytes} bytes, and its records have ${bytes}`);
    if (this.#snapshot.format >= totalsFrom && !isDamaged && stored !== row.stored) {
      await found(`it counts ${row.stored} bytes of batches, and has ${stored}`);
    }
    this.#cost += this.#snapshot.format >= totalsFrom ? row.stored : stored;
  }

  #nextBatch(id: number, seq: number, tail: number): number {
    for (const { key } of this.#snapshot.rows("batches", { start: [id, seq + 1], end: [id + 1] })) return key[1];
    return tail;
  }

  /** Batches that belong to no stream. */
  async #orphans(): Promise<void> {
    for (let id = this.#firstId(0); id !== undefined; id = this.#firstId(id + 1)) {
      if (this.#names.has(id) || this.#garbage.has(id)) continue;
      await this.#found({ detail: `the batches of id ${id} are no stream's` });
      await this.#rest();
    }
  }

  /** The lowest id from this one on that has batches. */
  #firstId(from: number): number | undefined {
    for (const { key } of this.#snapshot.rows("batches", { start: [from] })) return key[0];
    return undefined;
  }

  async #producers(): Promise<void> {
    const next = new Map<string, number>();
    const at = (id: number): { readonly stream?: string } => {
      const stream = this.#names.get(id);
      return stream === undefined ? {} : { stream };
    };
    for (const { key, value } of this.#snapshot.rows("producers")) {
      const [id, producerId] = key;
      this.#cost += producerCost(producerId);
      next.set(JSON.stringify(key), value.nextProducerSeq);
      if (!this.#names.has(id) && !this.#garbage.has(id)) {
        await this.#found({ detail: `the producer "${producerId}" of id ${id} is no stream's` });
      }
      await this.#rest();
    }
    for (const { key } of this.#snapshot.rows("positions")) {
      const [id, producerId, producerSeq] = key;
      this.#cost += positionCost(producerId);
      const nextSeq = next.get(JSON.stringify([id, producerId])) ?? 0;
      const isKept = producerSeq < nextSeq && producerSeq >= nextSeq - producerWindow;
      // What a deleted stream has left goes in parts, and older formats left some behind.
      if (!isKept && !this.#garbage.has(id) && this.#snapshot.format >= totalsFrom) {
        const detail = `the producer "${producerId}" has a position left of producer_seq ${producerSeq}, and its next is ${nextSeq}`;
        await this.#found({ ...at(id), detail });
      }
      await this.#rest();
    }
  }
}
