import type { Transaction } from "lmdb";
import { producerWindow } from "./append-rules.ts";
import { DomainError } from "../errors.ts";
import { StoreClaim } from "./lmdb-claim.ts";
import { openForReading, requireStore } from "./lmdb-env.ts";
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

const readOnlyCodes: readonly unknown[] = ["EROFS", "EACCES", "EPERM"];

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

/** One moment of a store, which another process may go on to write to. */
export class Snapshot {
  readonly #tables: ReturnType<typeof openForReading>;
  readonly #transaction: Transaction;
  readonly #close: () => Promise<void>;

  /** `close`: of the tables, if nobody else uses them. */
  constructor(tables: ReturnType<typeof openForReading>, close = (): Promise<void> => Promise.resolve()) {
    this.#tables = tables;
    this.#transaction = tables.root.useReadTransaction();
    this.#close = close;
  }

  /**
   * Of a directory that no process owns, which is opened for reading alone. Rejects with "store-locked", "store-corrupt" or
   * "store-unreadable".
   */
  static async open(dir: string, signal?: AbortSignal): Promise<Snapshot> {
    requireStore(dir);
    const claim = await StoreClaim.take(dir, signal).catch((error: unknown) => {
      // Nor can anybody own it where no socket can be made.
      if (error instanceof DomainError && readOnlyCodes.includes(codeOf(error.cause))) return undefined;
      throw error;
    });
    try {
      const tables = openForReading(dir);
      return new Snapshot(tables, () => tables.root.close());
    } finally {
      claim?.close();
    }
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
    await this.#close();
  }
}
