import { DomainError } from "../errors.ts";
import { requireUid } from "../store/store.ts";
import type { Store, StreamInfo } from "../store/store.ts";
import { hashRange } from "./hash-range.ts";

/** How a stream is to be ended. */
export interface Seal {
  readonly name: string;
  readonly expectedSeq: number | undefined;
  /** Empty for no check. */
  readonly sha256: Uint8Array;
  readonly expectedUid: string | undefined;
}

/**
 * Ends a stream, with `sha256` (if it is not empty) only after comparing it with
 * the data of all kept records. Records that arrive meanwhile are hashed too.
 */
export async function sealStored(
  store: Store,
  { name, expectedSeq, sha256, expectedUid }: Seal,
  chunkBytes: number,
  signal: AbortSignal,
): Promise<StreamInfo> {
  if (sha256.byteLength === 0) {
    return store.seal(name, { expectedUid, ...(expectedSeq === undefined ? {} : { expectedSeq }) });
  }
  const info = await store.get(name);
  requireUid(info, expectedUid);
  if (expectedSeq !== undefined && expectedSeq !== info.tail) {
    throw new DomainError({
      kind: "seq-mismatch",
      stream: name,
      expected: expectedSeq,
      head: info.head,
      tail: info.tail,
    });
  }
  const { head, tail, uid } = info;
  const actual = (await hashRange(store, { stream: name, uid, from: head, to: tail }, chunkBytes, signal)).digest();
  if (!actual.equals(sha256)) {
    throw new DomainError({ kind: "checksum-mismatch", stream: name, firstSeq: head, expected: sha256, actual });
  }
  // Appends since then make this fail with "seq-mismatch": what was checked is no longer what would be sealed.
  return store.seal(name, { expectedUid: uid, expectedSeq: tail, checksum: { sha256, firstSeq: head } });
}
