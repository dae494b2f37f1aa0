import { mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import { decodeArchive } from "../../src/store/archive.ts";
import { backUp, checkArchive, compact, restore } from "../../src/store/backup.ts";
import { hasChecksum } from "../../src/store/lmdb-codec.ts";
import { openTables } from "../../src/store/lmdb-env.ts";
import { openLmdbStore } from "../../src/store/lmdb.ts";
import type { Store } from "../../src/store/store.ts";
import { problem, records, textsFrom } from "../contract/store-contract.ts";
import { flipBits, useFilledStore } from "../support/damaged-store.ts";
import { findingsOf } from "../support/store-check.ts";

const { signal } = new AbortController();

async function useDir(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-backup-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** A directory with a kept store of an older format. */
async function useKept(name: string): Promise<string> {
  const dir = await useDir();
  const kept = gunzipSync(await readFile(join(import.meta.dirname, "fixtures", `${name}.mdb.gz`)));
  await writeFile(join(dir, "data.mdb"), kept);
  return dir;
}

async function open(dir: string): Promise<Store> {
  const store = await openLmdbStore({ dir, maxBytes: 2 ** 30, producerTtlMs: 1e12 });
  onTestFinished(() => store.close());
  return store;
}

async function archiveOf(dir: string): Promise<Buffer> {
  const parts: Buffer[] = [];
  const write = (bytes: Buffer): Promise<void> => {
    parts.push(bytes);
    return Promise.resolve();
  };
  await backUp(dir, write, { version: "test", rate: Infinity, signal });
  return Buffer.concat(parts);
}

async function* inChunks(bytes: Buffer, size = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size));
}

function restoreFrom(bytes: Buffer, dir: string): Promise<unknown> {
  return restore({ chunks: inChunks(bytes), size: bytes.length }, dir, { signal });
}

/** All that a client can see of a store, but the uids. */
async function contentOf(store: Store): Promise<unknown[]> {
  const content: unknown[] = [];
  for (const { uid: _, ...info } of await store.list({ limit: 100 })) {
    content.push([info, await textsFrom(store, info.name, info.head)]);
  }
  return content;
}

/** A store with something of everything, closed. */
async function useVaried(): Promise<string> {
  const dir = await useDir();
  const store = await openLmdbStore({ dir, maxBytes: 2 ** 30, producerTtlMs: 1e12 });
  await store.create("limited", { maxRecords: 3 }, { "content-type": "text/plain" });
  for (let i = 0; i < 5; i++) await store.append({ stream: "limited" }, { records: records(`l${i}`) });
  const { epoch } = await store.claimProducer({ stream: "produced", createIfMissing: true, producerId: "p" });
  for (let i = 0; i < 3; i++) {
    const input = {
      records: [{ data: Buffer.from(`p${i}`), headers: { kind: "text", ["__proto__"]: "x" } }],
      producerSeq: i,
    };
    await store.append({ stream: "produced", producer: { id: "p", epoch } }, input);
  }
  await store.append({ stream: "cut", createIfMissing: true }, { records: records("a", "b", "c") });
  await store.trim("cut", 1);
  const checksum = { sha256: Buffer.alloc(32, 7), firstSeq: 0 };
  await store.append({ stream: "sealed", createIfMissing: true }, { records: records("s"), seal: { checksum } });
  await store.create("empty");
  await store.append({ stream: "gone", createIfMissing: true }, { records: records("x".repeat(100_000)) });
  await store.delete("gone");
  await store.close();
  return dir;
}

describe("a backup", () => {
  it("makes a store with all that was there, under new uids", async () => {
    const dir = await useVaried();
    const copy = await useDir();
    await restoreFrom(await archiveOf(dir), copy);
    expect(await findingsOf(copy)).toEqual([]);
    const [before, after] = [await open(dir), await open(copy)];
    expect(await contentOf(after)).toEqual(await contentOf(before));
    const uids = new Set((await before.list({ limit: 100 })).map(({ uid }) => uid));
    for (const { uid } of await after.list({ limit: 100 })) expect(uids.has(uid)).toBe(false);
    const headers = { kind: "text", ["__proto__"]: "x" };
    const repeat = { records: [{ data: Buffer.from("p1"), headers }], producerSeq: 1 };
    await expect(after.append({ stream: "produced", producer: { id: "p", epoch: 1 } }, repeat)).resolves.toMatchObject({
      firstSeq: 1,
      duplicate: true,
    });
    await expect(after.claimProducer({ stream: "produced", producerId: "p" })).resolves.toMatchObject({ epoch: 2 });
    expect(await problem(after.append({ stream: "sealed" }, { records: records("more") }))).toBe("stream-sealed");
    await after.append({ stream: "new", createIfMissing: true }, { records: records("n") });
    expect(await textsFrom(after, "new", 0)).toEqual(["n"]);
  });

  it.each(["format-1", "format-2", "format-3"])("of %s is as good, and its batches get a checksum", async (name) => {
    const dir = await useKept(name);
    const bytes = await archiveOf(dir);
    const copy = await useDir();
    await restoreFrom(bytes, copy);
    expect(await findingsOf(copy)).toEqual([]);
    const tables = openTables(copy);
    for (const { value } of tables.batches.getRange({})) expect(hasChecksum(value)).toBe(true);
    await tables.root.close();
    expect(await contentOf(await open(copy))).toEqual(await contentOf(await open(dir)));
  });

  it("that is cut off, longer, or has a bit that flipped makes nothing", async () => {
    const bytes = await archiveOf(await useVaried());
    const reads = async (changed: Buffer): Promise<void> => {
      const entries = decodeArchive(inChunks(changed));
      while ((await entries.next()).done !== true);
    };
    await reads(bytes);
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.nat(7), async (at, bit) => {
        const flipped = Buffer.from(bytes);
        flipped.writeUInt8(flipped.readUInt8(at) ^ (1 << bit), at);
        for (const changed of [flipped, bytes.subarray(0, at)]) {
          expect(await problem(reads(changed))).toBe("archive-damaged");
        }
      }),
    );
    const copy = await useDir();
    for (const changed of [bytes.subarray(0, -1), Buffer.concat([bytes, Buffer.alloc(1)]), Buffer.alloc(0)]) {
      expect(await problem(restoreFrom(changed, copy))).toBe("archive-damaged");
      expect(await readdir(copy)).toEqual([]);
    }
  });

  it("is not restored over a store", async () => {
    const dir = await useVaried();
    const bytes = await archiveOf(dir);
    expect(await problem(restoreFrom(bytes, dir))).toBe("store-exists");
    expect(await findingsOf(dir)).toEqual([]);
    await restoreFrom(bytes, join(await useDir(), "above", "data"));
  });

  it("has damaged batches as they are, and says so", async () => {
    const dir = await useFilledStore();
    await flipBits(dir, "second of 2");
    const bytes = await archiveOf(dir);
    const totals = await checkArchive({ chunks: inChunks(bytes), size: undefined }, { signal });
    expect(totals).toMatchObject({ streams: 1, batches: 5, records: 8, damaged: 1 });
    const copy = await useDir();
    await restoreFrom(bytes, copy);
    const store = await open(copy);
    expect(await problem(store.read("s", 4, { maxRecords: 1, maxBytes: 100 }))).toBe("records-damaged");
    expect(await textsFrom(store, "s", 6)).toHaveLength(4);
  });

  it("ends when it is told to, and leaves nothing of a restore", async () => {
    const dir = await useVaried();
    const bytes = await archiveOf(dir);
    const ending = new AbortController();
    const write = (): Promise<void> => {
      ending.abort(new Error("enough"));
      return Promise.resolve();
    };
    const options = { version: "test", rate: 1, signal: ending.signal };
    await expect(backUp(dir, write, options)).rejects.toThrow("enough");
    const copy = await useDir();
    const stopped = AbortSignal.abort(new Error("enough"));
    const input = { chunks: inChunks(bytes, 10), size: undefined };
    await expect(restore(input, copy, { signal: stopped })).rejects.toThrow("enough");
    expect(await readdir(copy)).toEqual([]);
  });
});

describe("a store that is made compact", () => {
  it("has all that was there, in a smaller file, and is the same store", async () => {
    const dir = await useVaried();
    const store = await openLmdbStore({ dir, maxBytes: 2 ** 30, producerTtlMs: 1e12 });
    await store.append({ stream: "large", createIfMissing: true }, { records: records("x".repeat(8_000_000)) });
    await store.delete("large");
    const content = await contentOf(store);
    const uids = (await store.list({ limit: 100 })).map(({ uid }) => uid);
    expect(await problem(compact(dir, { signal }))).toBe("store-locked");
    await store.close();
    const { before, after } = await compact(dir, { signal });
    expect((await stat(join(dir, "data.mdb"))).size).toBe(after);
    expect(after).toBeLessThan(before / 2);
    expect(await findingsOf(dir)).toEqual([]);
    expect((await readdir(dir)).sort()).toEqual(["data.mdb", "lock.mdb"]);
    const again = await open(dir);
    expect(await contentOf(again)).toEqual(content);
    expect((await again.list({ limit: 100 })).map(({ uid }) => uid)).toEqual(uids);
  });

  it("is the old one when it is not done", async () => {
    const dir = await useVaried();
    const before = await readFile(join(dir, "data.mdb"));
    const stopped = AbortSignal.abort(new Error("enough"));
    await expect(compact(dir, { signal: stopped })).rejects.toThrow("enough");
    expect((await readdir(dir)).sort()).toEqual(["data.mdb", "lock.mdb"]);
    expect((await stat(join(dir, "data.mdb"))).size).toBe(before.length);
    await open(dir);
  });
});
