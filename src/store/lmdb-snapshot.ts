import type { Transaction } from "lmdb";
import { producerWindow } from "./append-rules.ts";
import { openForReading } from "./lmdb-env.ts";
import type { ProducerRow, StreamRow, Tables } from "./lmdb-env.ts";
import type { BatchKey } from "./lmdb-codec.ts";

/** The position of a batch that a producer may repeat, with the batch's producer_seq. */
export type Position = readonly [producerSeq: number, firstSeq: number, nextSeq: number, digest?: string];

/** A part of a store. A stream comes before its batches, in their order, and those before its producers. */
export type Entry =
  | { readonly kind: "stream"; readonly row: StreamRow }
  /** `value` as it is stored, whether it is damaged or not. */
  | { readonly kind: "batch"; readonly key: BatchKey; readonly value: Buffer }
  | {
      readonly kind: "producer";
      readonly streamId: number;
      readonly id: string;
      readonly row: ProducerRow;
      readonly positions: readonly Position[];
    };

/** A range of keys as lmdb takes it, within a transaction, which its types do not know. */
type Range = { readonly transaction: Transaction; readonly start?: never; readonly end?: never };

/** One moment of a store, which another process may go on to write to. */
export class Snapshot {
  readonly #tables: ReturnType<typeof openForReading>;
  readonly #transaction: Transaction;

  /** The directory is opened for reading alone. Fails with "store-corrupt" or "store-unreadable". */
  constructor(dir: string) {
    this.#tables = openForReading(dir);
    this.#transaction = this.#tables.root.useReadTransaction();
  }

  get format(): number {
    return this.meta("format") as number;
  }

  meta(key: string): unknown {
    return this.#tables.meta.get(key, { transaction: this.#transaction });
  }

  /** What the table has from `start` up to `end`, all of it without them. */
  *rows<N extends Exclude<keyof Tables, "root" | "meta">>(
    name: N,
    range: { readonly start?: unknown; readonly end?: unknown } = {},
  ): Generator<Tables[N] extends { getRange(options: never): Iterable<infer Row> } ? Row : never> {
    const table = this.#tables[name] as { getRange(options: Range): Iterable<never> } | undefined;
    if (table === undefined) return;
    yield* table.getRange({ ...range, transaction: this.#transaction } as Range);
  }

  /** Everything but what deleted streams have left. */
  *entries(): Generator<Entry> {
    for (const { value: row } of this.rows("streams")) {
      yield { kind: "stream", row };
      const { id } = row;
      const ofStream = { start: [id], end: [id + 1] };
      for (const { key, value } of this.rows("batches", ofStream)) yield { kind: "batch", key, value };
      for (const { key, value } of this.rows("producers", ofStream)) {
        const positions: Position[] = [];
        // Formats before 4 have left some of older epochs behind.
        const next = value.nextProducerSeq;
        const ofProducer = { start: [...key, Math.max(0, next - producerWindow)], end: [...key, next] };
        for (const each of this.rows("positions", ofProducer)) positions.push([each.key[2], ...each.value]);
        yield { kind: "producer", streamId: id, id: key[1], row: value, positions };
      }
    }
  }

  async close(): Promise<void> {
    this.#transaction.done();
    await this.#tables.root.close();
  }
}
