import { newUid } from "./identity.ts";
import { format } from "./lmdb-env.ts";
import type { StreamRow, Tables } from "./lmdb-env.ts";

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
export function upgrade(tables: Tables): void {
  const { root, meta, streams, retained } = tables;
  const found = meta.get("format");
  if (found === format) return;
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
