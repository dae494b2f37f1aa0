import { spawn } from "node:child_process";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, it, onTestFinished } from "vitest";
import { encodeBatch, hasChecksum } from "../../src/store/lmdb-codec.ts";
import { batchCost, positionCost, producerCost, streamCost } from "../../src/store/lmdb-costs.ts";
import { upgrade } from "../../src/store/lmdb-format.ts";
import type { Headroom } from "../../src/store/lmdb-headroom.ts";
import { statsOf } from "../../src/store/lmdb-page-bound.ts";
import type { Growth } from "../../src/store/lmdb-page-bound.ts";
import { openTables } from "../../src/store/lmdb-env.ts";
import { openLmdbStore } from "../../src/store/lmdb.ts";
import type { Store } from "../../src/store/store.ts";
import { problem, records, textsFrom } from "../contract/store-contract.ts";
import { until, within } from "../support/deadline.ts";

async function useDir(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-lmdb-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

function open(dir: string, maxBytes = 2 ** 30): Promise<Store> {
  return openLmdbStore({ dir, maxBytes, producerTtlMs: 60_000 });
}

/**
 * What everything counts as it is stored, and as the streams and the batches of streams add up to, with the bytes of all
 * records; no store has the directory open.
 */
async function totalsOf(dir: string): Promise<{ stored: unknown; streams: number; batches: number; records: number }> {
  const { root, meta, streams, batches, producers, positions } = openTables(dir);
  let ofRows = 0;
  let ofProducers = 0;
  let ofStreams = 0;
  let ofBatches = 0;
  let records = 0;
  const ids = new Set<number>();
  for (const { value } of streams.getRange({})) {
    ofRows += streamCost(value.info);
    ofStreams += value.stored;
    records += value.info.bytes;
    ids.add(value.id);
  }
  for (const { key, value } of batches.getRange({})) if (ids.has(key[0])) ofBatches += batchCost(value.byteLength);
  for (const key of producers.getKeys({})) ofProducers += producerCost(key[1]);
  for (const key of positions.getKeys({})) ofProducers += positionCost(key[1]);
  const stored = meta.get("bytes");
  await root.close();
  const others = ofRows + ofProducers;
  return { stored, streams: others + ofStreams, batches: others + ofBatches, records };
}

/** A directory with a kept store. */
async function useKept(name: string): Promise<string> {
  const dir = await useDir();
  const fixture = await readFile(join(import.meta.dirname, "fixtures", `${name}.mdb.gz`));
  await writeFile(join(dir, "data.mdb"), gunzipSync(fixture));
  return dir;
}

describe("a directory of format 1", () => {
  /** Written by the code before format 2: streams with and without retention, a seal, producers, a deleted stream. */
  const useOld = (): Promise<string> => useKept("format-1");

  it("is opened, with everything that is in it, and again", async () => {
    const dir = await useOld();
    for (let times = 0; times < 2; times++) {
      const store = await open(dir);
      const infos = await store.list({ limit: 10 });
      expect(infos).toMatchObject([
        { name: "kept/age", head: 0, tail: 6, bytes: 12, retention: { maxAgeMs: 1000 } },
        { name: "kept/records", head: 4, tail: 6, bytes: 4, retention: { maxRecords: 2 } },
        { name: "plain", head: 1, tail: 6, bytes: 10 },
        { name: "sealed", head: 0, tail: 1, bytes: 3, sealed: true, checksum: { firstSeq: 0 } },
      ]);
      expect(await textsFrom(store, "plain", 1)).toEqual(["b0", "a1", "b1", "a2", "b2"]);
      const resumed = await store.openAppender({ stream: "plain", producer: { id: "p", epoch: 1 } });
      expect(resumed.nextProducerSeq).toBe(3);
      await store.close();
      const totals = await totalsOf(dir);
      expect(totals.records).toBe(29);
      expect([totals.streams, totals.batches]).toEqual([totals.stored, totals.stored]);
    }
  });

  it("has its retention applied", async () => {
    const store = await open(await useOld());
    onTestFinished(() => store.close());
    await store.sweep(Date.now());
    // The newest batch stays.
    await until(5000, "the sweep's trim", async () => (await store.get("kept/age")).head === 4);
    expect(await store.get("plain")).toMatchObject({ head: 1 });
  });

  it("counts for the limit of bytes", async () => {
    const dir = await useOld();
    await (await open(dir)).close();
    const { stored } = await totalsOf(dir);
    const size = encodeBatch([1, 0], { timeMs: 0, arrivalMs: 0 }, records("x".repeat(10))).byteLength;
    const store = await open(dir, (stored as number) + batchCost(size));
    onTestFinished(() => store.close());
    const appender = await store.openAppender({ stream: "plain" });
    expect(await problem(appender.append({ records: records("x".repeat(11)) }))).toBe("store-full");
    const other = await store.openAppender({ stream: "plain" });
    await other.append({ records: records("x".repeat(10)) });
  });

  it("is left in its format when the server that has it open is asked for it", async () => {
    const dir = await useOld();
    const { lockStore } = await import("../../src/store/lmdb-lock.ts");
    const { StoreClaim } = await import("../../src/store/lmdb-claim.ts");
    const tables = openTables(dir);
    const claim = await StoreClaim.take(dir);
    const ownership = await lockStore(dir, tables, claim);
    expect(await problem(open(dir))).toBe("store-locked");
    expect(tables.meta.get("format")).toBe(1);
    ownership.release();
    await tables.root.close();
  });
});

describe("a directory of format 2", () => {
  /** Written by the code before format 3: retention, headers, a claimed producer, a seal with a checksum, a deleted stream. */
  const useOld = (): Promise<string> => useKept("format-2");

  it("is opened, with everything that is in it, and its streams keep the uids that they get", async () => {
    const dir = await useOld();
    const seen: string[][] = [];
    for (let times = 0; times < 3; times++) {
      const store = await open(dir);
      const infos = await store.list({ limit: 10 });
      expect(infos).toMatchObject([
        { name: "kept/age", head: 0, tail: 6, bytes: 60, retention: { maxAgeMs: 1000 } },
        { name: "plain", head: 1, tail: 8, bytes: 70 },
        { name: "sealed", head: 0, tail: 1, sealed: true, checksum: { firstSeq: 0 } },
      ]);
      seen.push(infos.map(({ uid }) => uid));
      expect(await textsFrom(store, "plain", 1)).toEqual(["b0", "a1", "b1", "a2", "b2", "p0", "p1"]);
      const producer = { id: "p", epoch: 1 };
      const resumed = await store.openAppender({ stream: "plain", producer });
      expect(resumed).toMatchObject({ nextProducerSeq: 2, firstSeq: 6, uid: infos[1]?.uid });
      const repeat = await resumed.append({
        records: [{ data: Buffer.from("p1"), headers: { kind: "text" } }],
        producerSeq: 1,
      });
      expect(repeat).toEqual({ firstSeq: 7, nextSeq: 8, duplicate: true });
      resumed.close();
      await store.close();
    }
    expect(new Set(seen[0])).toHaveProperty("size", 3);
    expect(seen).toEqual([seen[0], seen[0], seen[0]]);
    const totals = await totalsOf(dir);
    expect(totals.records).toBe(141);
    expect([totals.streams, totals.batches]).toEqual([totals.stored, totals.stored]);
  });
});

describe("a directory of format 3", () => {
  /**
   * Written by the code before format 4: uids, metadata, retention, headers, a claimed producer, one whose positions of an
   * older epoch were left behind, a seal with a checksum, a deleted stream, a record of 2099 with one of 2023 behind it.
   */
  const useOld = (): Promise<string> => useKept("format-3");

  it("is opened, with everything that is in it, and what is added has a checksum", async () => {
    const dir = await useOld();
    for (let times = 0; times < 3; times++) {
      const store = await open(dir);
      expect(await store.list({ limit: 10 })).toMatchObject([
        { name: "empty", uid: "0bTkPI4nbkII", head: 0, tail: 0, bytes: 0 },
        { name: "future", uid: "Is9fNuAH17g-", tail: 2, bytes: 18 },
        { name: "kept/age", retention: { maxAgeMs: 1000 }, metadata: { "content-type": "text/plain" }, bytes: 60 },
        { name: "plain", uid: "-8UQIZUMpwYn", head: 1, tail: 12 + times, bytes: 54 + 3 * times },
        { name: "sealed", sealed: true, checksum: { firstSeq: 0 } },
      ]);
      const texts = await textsFrom(store, "plain", 1);
      expect(texts.slice(0, 11)).toEqual(["b0", "a1", "b1", "a2", "b2", "p0", "p1", "q10", "q11", "q12", "q20"]);
      const resumed = await store.openAppender({ stream: "plain", producer: { id: "p", epoch: 1 } });
      const headers = { lang: "en", kind: "text" };
      const repeat = await resumed.append({ records: [{ data: Buffer.from("p1"), headers }], producerSeq: 1 });
      expect(repeat).toEqual({ firstSeq: 7, nextSeq: 8, duplicate: true });
      resumed.close();
      const appender = await store.openAppender({ stream: "plain" });
      await appender.append({ records: records("new") });
      await store.close();
      const totals = await totalsOf(dir);
      expect([totals.streams, totals.batches]).toEqual([totals.stored, totals.stored]);
    }
    const { root, batches, positions } = openTables(dir);
    onTestFinished(() => root.close());
    expect([...batches.getRange({})].filter(({ value }) => hasChecksum(value))).toHaveLength(3);
    // Two of p, one of q.
    expect([...positions.getKeys({})]).toHaveLength(3);
  });

  it("keeps by age what came after a clock that was ahead, and removes what came before", async () => {
    const store = await open(await useOld());
    onTestFinished(() => store.close());
    await store.update("future", { maxAgeMs: 60_000 });
    await store.sweep(Date.now());
    expect(await store.get("future")).toMatchObject({ head: 0, tail: 2 });
    const appender = await store.openAppender({ stream: "future" });
    await appender.append({ records: records("newest") });
    await store.sweep(Date.now() + 60_001);
    expect(await textsFrom(store, "future", (await store.get("future")).head)).toEqual(["newest"]);
  });
});

it("an upgrade makes the file grow by no more than it has asked for, whatever the rows have", async () => {
  for (const count of [0, 1, 32]) {
    const dir = await useDir();
    const store = await open(dir);
    const metadata = Object.fromEntries(Array.from({ length: count }, (_, i) => [`key${i}`, "v".repeat(1024)]));
    for (let i = 0; i < 100; i++) await store.create(`stream${i}`, { maxRecords: 5 }, metadata);
    await store.close();
    const tables = openTables(dir);
    await tables.meta.put("format", 3);
    const before = statsOf(tables.root);
    let bound = 0;
    const headroom = {
      require: (_: unknown, growth: Growth) => {
        bound = growth.exact(before);
        return Promise.resolve();
      },
    };
    await upgrade(tables, headroom as unknown as Headroom);
    const grown = (statsOf(tables.root).lastPageNumber - before.lastPageNumber) * before.pageSize;
    expect(grown).toBeLessThanOrEqual(bound);
    await tables.root.close();
  }
});

describe("the total of bytes", () => {
  it("is right after appends, trims, retention, failures and deletes", async () => {
    const dir = await useDir();
    const store = await open(dir, 100_000);
    await store.create("kept", { maxRecords: 3 });
    for (const name of ["a", "b", "kept"]) {
      const appender = await store.openAppender({ stream: name, createIfMissing: true });
      for (let i = 0; i < 20; i++) await appender.append({ records: records("x".repeat(i), "é") });
    }
    for (const epoch of [1, 2]) {
      const producer = { id: "p", epoch };
      const producing = await store.openAppender({ stream: "a", producer });
      for (let i = 0; i < 3; i++) await producing.append({ records: records("p"), producerSeq: i });
      producing.close();
    }
    await store.claimProducer({ stream: "b", producerId: "claimed" });
    await store.claimProducer({ stream: "a", producerId: "p" });
    await store.trim("a", 7);
    const failing = await store.openAppender({ stream: "a" });
    expect(await problem(failing.append({ records: records("x".repeat(200_000)) }))).toBe("store-full");
    await store.delete("b");
    await until(5000, "the retention", async () => (await store.get("kept")).head === 38);
    await store.sweep(Date.now() + 100_000);
    await store.close();
    const { stored, streams, batches } = await totalsOf(dir);
    expect([streams, batches]).toEqual([stored, stored]);
  });

  it("is right whenever the process is killed", async () => {
    const dir = await useDir();
    const script = `import { openLmdbStore } from ${JSON.stringify(join(import.meta.dirname, "../../src/store/lmdb.ts"))};
      const store = await openLmdbStore({ dir: process.argv[1], maxBytes: 1e9, producerTtlMs: 1e9 });
      const records = [{ data: Buffer.alloc(100), headers: {} }, { data: Buffer.alloc(7), headers: {} }];
      const worker = async (name) => {
        for (let i = 0; ; i++) {
          const appender = await store.openAppender({ stream: name, createIfMissing: true });
          const appends = Array.from({ length: 5 }, () => appender.append({ records }));
          await Promise.all(appends);
          const { tail } = await store.get(name);
          if (i % 3 === 0) await store.trim(name, tail - 2);
          if (i % 7 === 6) await store.delete(name);
        }
      };
      console.log("open");
      await Promise.all(["a", "b", "c", "d"].map(worker));`;
    for (let round = 0; round < 5; round++) {
      const writer = spawn(process.execPath, ["--input-type=module-typescript", "-e", script, dir], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      await within(20_000, "the writer's start", new Promise((resolve) => writer.stdout.once("data", resolve)));
      // Where it is hit does not matter, but should differ.
      await new Promise((resolve) => setTimeout(resolve, 50 + round * 37));
      const exited = new Promise((resolve) => writer.once("exit", resolve));
      writer.kill("SIGKILL");
      await within(10_000, "the writer's end", exited);
      const copy = await useDir();
      await cp(join(dir, "data.mdb"), join(copy, "data.mdb"));
      const { stored, streams, batches } = await totalsOf(copy);
      expect(stored).toBe(streams);
      // Trims leave whole batches behind them here, so that nothing of what is stored is below a head.
      expect(stored).toBe(batches);
      expect(stored).toBeGreaterThanOrEqual(0);
    }
  });
});
