import { format } from "./lmdb-env.ts";
import type { Tables } from "./lmdb-env.ts";

/**
 * Brings a directory of an older version to today's format, in one transaction:
 * a crash leaves either. Only for the owner of the directory.
 *
 * Format 1 had no total of bytes and no table of the streams with a retention,
 * so that each start and each sweep went through all streams. A server that
 * knows only format 1 would not keep them right: it refuses format 2, and says so.
 */
export function upgrade({ root, meta, streams, retained }: Tables): void {
  if (meta.get("format") === format) return;
  root.transactionSync(() => {
    let bytes = 0;
    for (const { key, value } of streams.getRange({})) {
      bytes += value.info.bytes;
      if (Object.keys(value.info.retention).length > 0) retained.putSync(key, true);
    }
    meta.putSync("bytes", bytes);
    meta.putSync("format", format);
  });
}
