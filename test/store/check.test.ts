import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { expect, it, onTestFinished } from "vitest";
import { isDomainError } from "../../src/errors.ts";
import { openTables } from "../../src/store/lmdb-env.ts";
import type { StreamRow, Tables } from "../../src/store/lmdb-env.ts";
import { openLmdbStore } from "../../src/store/lmdb.ts";
import { records } from "../contract/store-contract.ts";
import { flipBits, useFilledStore } from "../support/damaged-store.ts";
import { until } from "../support/deadline.ts";
import { findingsOf } from "../support/store-check.ts";

/** Rows of a table. */
async function countOf(dir: string, table: "garbage" | "producers"): Promise<number> {
  const tables = openTables(dir);
  const count = [...tables[table].getKeys({})].length;
  await tables.root.close();
  return count;
}

async function useDir(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-check-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

it.each(["format-1", "format-2", "format-3"])(
  "finds nothing in a store of %s, and leaves it as it is",
  async (name) => {
    const dir = await useDir();
    const kept = gunzipSync(await readFile(join(import.meta.dirname, "fixtures", `${name}.mdb.gz`)));
    await writeFile(join(dir, "data.mdb"), kept);
    expect(await findingsOf(dir)).toEqual([]);
    expect(kept.equals(await readFile(join(dir, "data.mdb")))).toBe(true);
  },
);

it("finds nothing in a store that a process has open, and that goes on meanwhile", async () => {
  const dir = await useDir();
  const store = await openLmdbStore({ dir, maxBytes: 2 ** 30, producerTtlMs: 60_000 });
  onTestFinished(() => store.close());
  let checked = false;
  const work = async (stream: string): Promise<void> => {
    for (let i = 0; !checked; i++) {
      const producer = { id: `p${i % 3}`, epoch: i };
      await store.append(
        { stream, createIfMissing: true, producer },
        { records: records(`${i}`, "x"), producerSeq: 0 },
      );
      if (i % 5 === 4) await store.trim(stream, i);
      if (i % 17 === 16) await store.delete(stream);
    }
  };
  const workers = ["a", "b", "c"].map(work);
  for (let i = 0; i < 10; i++) expect(await findingsOf(dir)).toEqual([]);
  checked = true;
  await Promise.all(workers);
});

it("finds nothing where producers are forgotten while their stream is deleted", async () => {
  const dir = await useDir();
  const store = await openLmdbStore({ dir, maxBytes: 2 ** 30, producerTtlMs: 1000 });
  for (let i = 0; i < 30; i++) {
    const producer = { id: `p${i}`, epoch: 0 };
    for (let producerSeq = 0; producerSeq < 20; producerSeq++) {
      await store.append({ stream: "s", createIfMissing: true, producer }, { records: records("x"), producerSeq });
    }
  }
  await store.append({ stream: "kept", createIfMissing: true }, { records: records("x") });
  await Promise.all([store.delete("s"), store.sweep(Date.now() + 5000)]);
  // Collection goes on in parts.
  await until(10_000, "the end of the collection", async () => (await countOf(dir, "garbage")) === 0);
  await store.close();
  expect(await countOf(dir, "producers")).toBe(0);
  expect(await findingsOf(dir)).toEqual([]);
});

function change(name: string, edit: (row: StreamRow) => StreamRow): (tables: Tables) => Promise<unknown> {
  return ({ streams }) => streams.put(name, edit(streams.get(name) as StreamRow));
}

function info(edit: Partial<StreamRow["info"]>): (row: StreamRow) => StreamRow {
  return (row) => ({ ...row, info: { ...row.info, ...edit } });
}

const damages: [string, (tables: Tables) => Promise<unknown>, RegExp][] = [
  ["a batch that is gone", ({ batches }) => batches.remove([1, 4]), /records are missing up to seq 6/],
  ["the first batch gone", ({ batches }) => batches.remove([1, 0]), /records are missing up to seq 2/],
  ["the last batch gone", ({ batches }) => batches.remove([1, 8]), /records are missing up to its tail 10/],
  [
    "a batch under another key",
    ({ batches }) => batches.put([1, 4], batches.get([1, 2]) as Buffer),
    /not as it was stored/,
  ],
  ["a tail too low", change("s", info({ tail: 6 })), /records beyond its tail 6/],
  ["a tail too high", change("s", info({ tail: 12 })), /records are missing up to its tail 12/],
  ["a head too high", change("s", info({ head: 4 })), /a batch was left that has been trimmed/],
  ["other bytes", change("s", info({ bytes: 1 })), /it says 1 bytes/],
  ["another name", change("s", info({ name: "t" })), /has the name "t"/],
  ["another newest batch", change("s", (row) => ({ ...row, newest: 2 })), /newest batch is that at seq 8/],
  ["another price", change("s", (row) => ({ ...row, stored: 7 })), /it counts 7 bytes of batches/],
  [
    "an id twice",
    ({ streams }) => streams.put("t", streams.get("s") as StreamRow),
    /it has the id 1, as the stream "s" has/,
  ],
  ["an id that is still to come", ({ meta }) => meta.put("nextId", 1), /which the next new stream will have/],
  [
    "retention that is not applied",
    change("s", info({ retention: { maxRecords: 9 } })),
    /its retention is not applied/,
  ],
  ["retention of no stream", ({ retained }) => retained.put("t", true), /it is not there, and its retention is/],
  ["a stream that is being removed", ({ garbage }) => garbage.put(1, true), /as if it were deleted/],
  ["batches of no stream", ({ batches }) => batches.put([9, 0], Buffer.alloc(50)), /batches of id 9 are no stream's/],
  [
    "a producer of no stream",
    ({ producers }) => producers.put([9, "p"], { epoch: 0, nextProducerSeq: 0, firstSeq: 0, lastTimeMs: 0 }),
    /producer "p" of id 9 is no stream's/,
  ],
  ["a position of no producer", ({ positions }) => positions.put([1, "p", 3], [0, 1, "x"]), /has a position left/],
  ["another total", ({ meta }) => meta.put("bytes", 5), /the total is 5 bytes/],
];

it.each(damages)("finds %s", async (_, damage, expected) => {
  const dir = await useFilledStore();
  expect(await findingsOf(dir)).toEqual([]);
  const tables = openTables(dir);
  await damage(tables);
  await tables.root.close();
  expect((await findingsOf(dir)).map(({ detail }) => detail)).toContainEqual(expect.stringMatching(expected));
});

it("finds a bit that has flipped, and where", async () => {
  const dir = await useFilledStore();
  await flipBits(dir, "second of 2");
  expect(await findingsOf(dir)).toEqual([{ stream: "s", seq: 4, detail: "its batch is not as it was stored" }]);
});

it("says what it cannot read", async () => {
  const dir = await useDir();
  const failure: unknown = await findingsOf(dir).catch((error: unknown) => error);
  expect(isDomainError(failure, "store-unreadable")).toBe(true);
  await writeFile(join(dir, "data.mdb"), "no store, but long enough to be looked at".repeat(500));
  const other: unknown = await findingsOf(dir).catch((error: unknown) => error);
  expect(isDomainError(other, "store-corrupt")).toBe(true);
});
