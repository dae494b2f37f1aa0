import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { openTables } from "../../src/store/lmdb-env.ts";
import { openLmdbStore } from "../../src/store/lmdb.ts";
import { records } from "../contract/store-contract.ts";

/**
 * A closed store with the stream "s" of five batches of two records: seq 0 and 1, to 8 and 9. `timeOf`: when each batch is
 * stored, in milliseconds.
 */
export async function useFilledStore(timeOf?: (batch: number) => number): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-damage-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  let batch = 0;
  const now = (): number => timeOf?.(batch) ?? Date.now();
  const store = await openLmdbStore({ dir, maxBytes: 2 ** 30, producerTtlMs: 60_000, now });
  const appender = await store.openAppender({ stream: "s", createIfMissing: true });
  for (; batch < 5; batch++) {
    await appender.append({ records: records(`first of ${batch}`, `second of ${batch}`) });
  }
  await store.close();
  return dir;
}

/** Flips a bit of each place in the file that has the text. */
export async function flipBits(dir: string, text: string): Promise<void> {
  const path = join(dir, "data.mdb");
  const bytes = await readFile(path);
  let found = 0;
  for (let at = bytes.indexOf(text); at !== -1; at = bytes.indexOf(text, at + text.length)) {
    bytes.writeUInt8(bytes.readUInt8(at + 3) ^ 0x10, at + 3);
    found++;
  }
  expect(found).toBeGreaterThan(0);
  await writeFile(path, bytes);
}

/** The batch from this seq on disappears. */
export async function loseBatch(dir: string, firstSeq: number): Promise<void> {
  const { root, batches } = openTables(dir);
  for (const key of batches.getKeys({})) if (key[1] === firstSeq) await batches.remove(key);
  await root.close();
}
