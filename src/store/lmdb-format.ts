import type { Database } from "lmdb";
import { producerWindow } from "./append-rules.ts";
import { newUid } from "./identity.ts";
import { batchCost, positionCost, producerCost, streamCost } from "./lmdb-costs.ts";
import { format } from "./lmdb-env.ts";
import type { StreamRow, Tables } from "./lmdb-env.ts";
import type { Headroom } from "./lmdb-headroom.ts";
import { addPut, growthOf, noChanges, statsOf } from "./lmdb-page-bound.ts";
import type { TreeChanges } from "./lmdb-page-bound.ts";

/** What a small row takes, and a stream's row besides what it counts, in bytes, at most. */
const rowBytes = 512;

/** Rows that are changed between two looks for more. */
const rowsAtOnce = 1000;

/** From this size on an upgrade takes long enough to be told of, in bytes. */
const largeFrom = 2 ** 30;

/** A row as an older format has it. */
type OldRow = Omit<StreamRow, "info" | "stored"> & {
  readonly info: Omit<StreamRow["info"], "uid"> & { readonly uid?: string };
};

/** What an upgrade to format 4 finds out before it changes anything. */
interface Survey {
  /** What the batches of each stream count, by the stream's id. */
  readonly stored: ReadonlyMap<number, number>;
  /** What all producers and positions count, without the left ones. */
  readonly producers: number;
  /** Positions that earlier versions did not remove with a producer's epoch. */
  readonly left: readonly [number, string, number][];
}

/**
 * Brings a directory of an older version to today's format, in one transaction:
 * a crash leaves either. Only for the owner of the directory.
 *
 * Format 1 had no total of bytes and no table of the streams with a retention,
 * so that each start and each sweep went through all streams. Formats 1 and 2
 * had streams without a uid. Formats 1 to 3 counted only the records' bytes,
 * and had batches without a checksum and an arrival, which stay as they are. A
 * server that knows only an older format would not keep these: it refuses the
 * directory, and says so.
 */
export async function upgrade(
  tables: Tables,
  headroom: Headroom,
  warn: (message: string) => void = () => undefined,
): Promise<void> {
  const { root, meta, streams, retained, positions } = tables;
  const found = meta.get("format");
  if (found === format) return;
  const { lastPageNumber, pageSize } = statsOf(root);
  if (lastPageNumber * pageSize > largeFrom) {
    warn(`the data directory has format ${String(found)}, and is brought to format ${format}: all of it is read once`);
  }
  const survey = surveyOf(tables);
  await headroom.require("release", growthOf(changesOf(tables, survey)));
  root.transactionSync(() => {
    let bytes = survey.producers;
    for (const [name, row] of oldRows(tables)) {
      const stored = survey.stored.get(row.id) ?? 0;
      bytes += streamCost(row.info) + stored;
      if (Object.keys(row.info.retention).length > 0) retained.putSync(name, true);
      streams.putSync(name, { ...row, stored, info: { ...row.info, uid: row.info.uid ?? newUid() } });
    }
    for (const key of survey.left) positions.removeSync(key);
    meta.putSync("bytes", bytes);
    meta.putSync("format", format);
  });
}

function surveyOf({ batches, producers, positions }: Tables): Survey {
  const stored = new Map<number, number>();
  for (const { key, value } of batches.getRange({})) {
    stored.set(key[0], (stored.get(key[0]) ?? 0) + batchCost(value.byteLength));
  }
  let bytes = 0;
  for (const key of producers.getKeys({})) bytes += producerCost(key[1]);
  const left: [number, string, number][] = [];
  for (const key of positions.getKeys({})) {
    const [id, producerId, producerSeq] = key;
    const next = producers.get([id, producerId])?.nextProducerSeq ?? 0;
    if (producerSeq >= next || producerSeq < next - producerWindow) left.push(key);
    else bytes += positionCost(producerId);
  }
  return { stored, producers: bytes, left };
}

/** What the upgrade writes, by table. */
function changesOf(tables: Tables, { left }: Survey): Map<Database, TreeChanges> {
  const [meta, streams, retained, positions] = [noChanges(), noChanges(), noChanges(), noChanges()];
  for (const key of ["bytes", "format"]) addPut(meta, key.length, rowBytes, true);
  for (const [name, row] of oldRows(tables)) {
    // A row that has become larger may move to pages of its own.
    addPut(streams, name.length, rowBytes + streamCost(row.info), true);
    if (Object.keys(row.info.retention).length > 0) addPut(retained, name.length, rowBytes, true);
  }
  positions.removals = left.length;
  return new Map<Database, TreeChanges>([
    [tables.meta, meta],
    [tables.streams, streams],
    [tables.retained, retained],
    [tables.positions, positions],
  ]);
}

/** In parts, because a row is put while others are still to be read. */
function* oldRows({ streams }: Tables): Generator<[string, OldRow]> {
  for (let last: string | undefined; ;) {
    const start = last === undefined ? {} : { start: last, exclusiveStart: true };
    const part = [...streams.getRange({ ...start, limit: rowsAtOnce })];
    for (const { key, value } of part) yield [key, value];
    if (part.length < rowsAtOnce) return;
    last = part.at(-1)?.key;
  }
}
