import { TimeSlice } from "../async/time-slice.ts";
import type { ArchiveEntry } from "./archive.ts";
import type { Snapshot } from "./lmdb-snapshot.ts";
import { Tally } from "./tally.ts";

/** All that a backup has, in its order. Others get their turns meanwhile. */
export async function* archiveOf(
  snapshot: Snapshot,
  version: string,
  signal: AbortSignal,
): AsyncGenerator<ArchiveEntry> {
  const tally = new Tally();
  const slice = new TimeSlice(signal);
  const aboutBytes = Number(snapshot.meta("bytes") ?? 0);
  yield { kind: "head", head: { version, format: snapshot.format, time: new Date().toISOString(), aboutBytes } };
  for (const entry of snapshot.entries()) {
    slice.check();
    tally.add(entry);
    yield entry;
    if (slice.isOver) await slice.next();
  }
  yield { kind: "end", totals: tally.totals };
}
