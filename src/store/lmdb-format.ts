import type { Database } from "lmdb";
import { newUid } from "./identity.ts";
import { format } from "./lmdb-env.ts";
import type { StreamRow, Tables } from "./lmdb-env.ts";
import type { Headroom } from "./lmdb-headroom.ts";
import { addPut, growthOf, noChanges } from "./lmdb-page-bound.ts";
import type { TreeChanges } from "./lmdb-page-bound.ts";

/** What a uid adds to a row, in bytes, at most. */
const uidBytes = 64;

/** Rows that are changed between two looks for more. */
const rowsAtOnce = 1000;

/** A row as formats 1 and 2 have it. */
type OldRow = Omit<StreamRow, "info"> & { readonly info: Omit<StreamRow["info"], "uid"> };

/**
 * Brings a directory of an older version to today's format, in one transaction:
 * a crash leaves either. Only for the owner of the directory.
 *
 * Format 1 had no total of bytes and no table of the streams with a retention,
 * so that each start and each sweep went through all streams. Formats 1 and 2
 * had streams without a uid. A server that knows only an older format would not
 * keep these: it refuses the directory, and says so.
 */
export async function upgrade(tables: Tables, headroom: Headroom): Promise<void> {
  const { root, meta, streams, retained } = tables;
  const found = meta.get("format");
  if (found === format) return;
  await headroom.require("release", growthOf(changesOf(tables)));
  root.transactionSync(() => {
    let bytes = 0;
    for (const [name, row] of oldRows(tables)) {
      bytes += row.info.bytes;
      if (Object.keys(row.info.retention).length > 0) retained.putSync(name, true);
      streams.putSync(name, { ...row, info: { ...row.info, uid: newUid() } });
    }
    if (found === 1) meta.putSync("bytes", bytes);
    meta.putSync("format", format);
  });
}

/** What the upgrade writes, by table. */
function changesOf(tables: Tables): Map<Database, TreeChanges> {
  const [meta, streams, retained] = [noChanges(), noChanges(), noChanges()];
  for (const key of ["bytes", "format"]) addPut(meta, key.length, uidBytes, true);
  for (const [name, row] of oldRows(tables)) {
    addPut(streams, 0, uidBytes, true);
    if (Object.keys(row.info.retention).length > 0) addPut(retained, name.length, uidBytes, true);
  }
  return new Map([
    [tables.meta, meta],
    [tables.streams, streams],
    [tables.retained, retained],
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
