import { connectToOwner } from "./lmdb-claim.ts";
import { Check } from "./lmdb-check.ts";
import type { CheckOptions, CheckResult } from "./lmdb-check.ts";
import { Snapshot } from "./lmdb-snapshot.ts";
import { askForCheck } from "./owner-requests.ts";

/**
 * Walks through all of a store, as it is at one moment, and compares each stream with its batches, each batch with its
 * checksum, and all counts with what they count. A server that uses the directory is asked to do it, and goes on meanwhile.
 */
export async function checkStore(dir: string, options: CheckOptions): Promise<CheckResult> {
  const owner = await connectToOwner(dir);
  if (owner !== undefined) return askForCheck(owner, dir, options);
  const snapshot = await Snapshot.open(dir, options.signal);
  try {
    return await new Check(snapshot, options).run();
  } finally {
    await snapshot.close();
  }
}
