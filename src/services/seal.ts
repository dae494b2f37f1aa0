import { DomainError } from "../errors.ts";
import type { Store, StreamInfo } from "../store/store.ts";
import { hashRange } from "./hash-range.ts";

/**
 * Ends a stream, with `sha256` (if it is not empty) only after comparing it with
 * the data of all kept records. Records that arrive meanwhile are hashed too.
 */
export async function sealStored(
  store: Store,
  name: string,
  expectedSeq: number | undefined,
  sha256: Uint8Array,
  chunkBytes: number,
  signal: AbortSignal,
): Promise<StreamInfo> {
  const expected = expectedSeq === undefined ? {} : { expectedSeq };
  if (sha256.byteLength === 0) return store.seal(name, expected);
  const info = await store.get(name);
  if (expectedSeq !== undefined && expectedSeq !== info.tail) {
    throw new DomainError({
      kind: "seq-mismatch",
      stream: name,
      expected: expectedSeq,
      head: info.head,
      tail: info.tail,
    });
  }
  const { head, tail } = info;
  const actual = (await hashRange(store, name, head, tail, chunkBytes, signal)).digest();
  if (!actual.equals(sha256)) {
    throw new DomainError({ kind: "checksum-mismatch", stream: name, firstSeq: head, expected: sha256, actual });
  }
  // Appends since then make this fail with "seq-mismatch": what was checked is no longer what would be sealed.
  return store.seal(name, { expectedSeq: tail, checksum: { sha256, firstSeq: head } });
}
