import { execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, cp, mkdir, mkdtemp, readFile, readdir, rm, stat, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { openTables } from "../../src/store/lmdb-env.ts";
import { pagesOf, statsOf } from "../../src/store/lmdb-page-bound.ts";
import { openLmdbStore } from "../../src/store/lmdb.ts";
import type { LmdbStoreOptions } from "../../src/store/lmdb.ts";
import type { Store } from "../../src/store/store.ts";
import { problem, records, textsFrom } from "../contract/store-contract.ts";
import { until, within } from "../support/deadline.ts";

const lmdbModule = join(import.meta.dirname, "../../src/store/lmdb.ts");

async function useDir(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-lmdb-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

function open(dir: string, options: Partial<LmdbStoreOptions> = {}): Promise<Store> {
  return openLmdbStore({ dir, maxBytes: 2 ** 30, producerTtlMs: 60_000, ...options });
}

async function fill(store: Store, stream: string, ...texts: string[]): Promise<void> {
  const appender = await store.openAppender({ stream, createIfMissing: true });
  await appender.append({ records: records(...texts) });
}

/** A store with something in it, closed. */
async function useFilled(): Promise<string> {
  const dir = await useDir();
  const store = await open(dir);
  await fill(store, "s", "a", "b");
  await store.close();
  return dir;
}

describe("an lmdb store's files", () => {
  it("keep streams, seals and producers", async () => {
    const dir = await useDir();
    const producer = { id: "p", epoch: 3 };
    const store = await open(dir);
    const appender = await store.openAppender({ stream: "s", createIfMissing: true, producer });
    await appender.append({ records: records("a", "b"), producerSeq: 0 });
    await store.trim("s", 1);
    await store.seal("s");
    const info = await store.get("s");
    await store.close();
    const again = await open(dir);
    onTestFinished(() => again.close());
    expect(await again.get("s")).toEqual(info);
    expect(await textsFrom(again, "s", 1)).toEqual(["b"]);
    const resumed = await again.openAppender({ stream: "s", producer });
    expect(resumed).toMatchObject({ nextProducerSeq: 1, firstSeq: 0 });
    await expect(resumed.append({ records: records("a", "b"), producerSeq: 0 })).resolves.toMatchObject({
      duplicate: true,
    });
  });

  it("hold no batch that was trimmed or has left, and those that are kept in part", async () => {
    const dir = await useDir();
    const store = await open(dir);
    await store.create("kept", { maxRecords: 2 });
    for (const name of ["trimmed", "cut", "kept"]) {
      const appender = await store.openAppender({ stream: name, createIfMissing: true });
      for (let i = 0; i < 4; i++) await appender.append({ records: records(`a${i}`, `b${i}`) });
    }
    await store.trim("trimmed", 4);
    await store.trim("cut", 5);
    await until(10_000, "the retention", async () => (await store.get("kept")).head === 6);
    await store.close();
    const { root, batches } = openTables(dir);
    onTestFinished(() => root.close());
    const firstSeqs = new Map<number, number[]>();
    for (const [id, firstSeq] of batches.getKeys()) firstSeqs.set(id, [...(firstSeqs.get(id) ?? []), firstSeq]);
    // In the order in which they were made: kept, trimmed, cut.
    expect([...firstSeqs.values()]).toEqual([[6], [4, 6], [4, 6]]);
  });

  it("hold nothing of streams that were deleted, whenever each was", async () => {
    const dir = await useDir();
    const store = await open(dir);
    const live = async (name: string): Promise<void> => {
      const appender = await store.openAppender({ stream: name, createIfMissing: true });
      for (let i = 0; i < 3; i++) await appender.append({ records: records("a") });
      await store.delete(name);
    };
    // Some are deleted just when what others have left has been removed.
    for (let round = 0; round < 40; round++) {
      await Promise.all(Array.from({ length: 1 + (round % 5) }, (_, i) => live(`s${i}`)));
      for (let turn = 0; turn < round % 7; turn++) await new Promise(setImmediate);
    }
    const { root, batches, garbage } = openTables(dir);
    onTestFinished(async () => {
      await root.close();
      await store.close();
    });
    const left = (): number => [...batches.getKeys(), ...garbage.getKeys()].length;
    await until(10_000, "the end of what they have left", () => left() === 0);
  });

  it("are one store's at a time, in a process or in several", async () => {
    const dir = await useDir();
    const store = await open(dir);
    expect(await problem(open(dir))).toBe("store-locked");
    const script = `import { openLmdbStore } from ${JSON.stringify(join(import.meta.dirname, "../../src/store/lmdb.ts"))};
      await openLmdbStore({ dir: process.argv[1], maxBytes: 1e9, producerTtlMs: 1 });
      console.log("open"); setInterval(() => {}, 1000);`;
    const run = () =>
      spawn(process.execPath, ["--input-type=module-typescript", "-e", script, dir], {
        stdio: ["ignore", "pipe", "pipe"],
      });
    const refused = run();
    let errors = "";
    refused.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    await within(20_000, "the other's end", new Promise((resolve) => refused.once("close", resolve)));
    expect(errors).toContain(`is in use (process ${process.pid} has it)`);
    await store.close();
    const owner = run();
    await within(20_000, "the other's word", new Promise((resolve) => owner.stdout.once("data", resolve)));
    expect(await problem(open(dir))).toBe("store-locked");
    owner.kill("SIGKILL");
    await within(10_000, "the owner's end", new Promise((resolve) => owner.once("exit", resolve)));
    await (await open(dir)).close();
  });

  it("are not taken while it cannot be told whether their owner has ended", async () => {
    const dir = await useDir();
    const store = await open(dir);
    const [socket = ""] = (await readdir(dir)).filter((name) => name.endsWith(".sock"));
    await rm(join(dir, socket));
    // Neither an answer nor a refusal: ELOOP.
    await symlink(socket, join(dir, socket));
    expect(await problem(open(dir))).toBe("store-locked");
    await fill(store, "s", "a");
    await store.close();
    await (await open(dir)).close();
  });

  it("can be opened by one of many that try at once", async () => {
    const dir = await useFilled();
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => open(dir)));
    const stores = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
    expect(stores).toHaveLength(1);
    await stores[0]?.close();
  });

  it("can have a long path", async () => {
    const dir = join(await useDir(), "long".repeat(30));
    const store = await open(dir);
    expect(await problem(open(dir))).toBe("store-locked");
    await store.close();
  });

  it("are refused, and left as they are, when they are something else or damaged", async () => {
    const good = await useFilled();
    const damages: [what: string, damage: (file: string) => Promise<void>][] = [
      ["garbage", (file) => writeFile(file, Buffer.alloc(20_000, "garbage "))],
      ["a short file", (file) => writeFile(file, "x")],
      // Behind the pages in use the file is zeros, which may be missing.
      ["cut off", (file) => truncate(file, 3 * 4096)],
      [
        "a broken second meta page",
        async (file) => {
          const bytes = await readFile(file);
          bytes.fill(0, 4096, 8192);
          await writeFile(file, bytes);
        },
      ],
    ];
    for (const [what, damage] of damages) {
      const dir = await useDir();
      const file = join(dir, "data.mdb");
      await cp(join(good, "data.mdb"), file);
      await damage(file);
      const before = await readFile(file);
      expect(await problem(open(dir)), what).toBe("store-corrupt");
      expect((await readFile(file)).equals(before), what).toBe(true);
    }
  });

  it("have all their space on the disk, also a copy of them with holes", async () => {
    const dir = await useFilled();
    const file = join(dir, "data.mdb");
    const holes = async (): Promise<number> => {
      const { size, blocks } = await stat(file);
      return size - 512 * blocks;
    };
    expect(await holes()).toBeLessThanOrEqual(0);
    await truncate(file, (await stat(file)).size + 1024 * 1024);
    expect(await holes()).toBeGreaterThan(0);
    const store = await open(dir);
    expect(await holes()).toBeLessThanOrEqual(0);
    expect(await textsFrom(store, "s", 0)).toEqual(["a", "b"]);
    await store.close();
  });

  it("of a new store take less than 4 MiB", async () => {
    const { size } = await stat(join(await useFilled(), "data.mdb"));
    expect(size).toBeLessThan(4 * 1024 * 1024);
  });

  it("of a later format are refused", async () => {
    const dir = await useFilled();
    const { openTables } = await import("../../src/store/lmdb-env.ts");
    const tables = openTables(dir);
    await tables.meta.put("format", 99);
    await tables.root.close();
    await expect(open(dir)).rejects.toThrow(/format 99, and this version of Sluice reads format 4/);
  });

  it("cannot be where a file is", async () => {
    const dir = await useDir();
    await writeFile(join(dir, "file"), "");
    expect(await problem(open(join(dir, "file")))).toBe("store-unreadable");
    expect(await problem(open(join(dir, "file", "below")))).toBe("store-unreadable");
    await mkdir(join(dir, "odd", "data.mdb"), { recursive: true });
    expect(await problem(open(join(dir, "odd")))).toBe("store-unreadable");
  });
});

describe("a full store", () => {
  it("refuses appends, serves reads, and takes appends again when there is room", async () => {
    const store = await open(await useDir(), { maxBytes: 100_000 });
    onTestFinished(() => store.close());
    const big = "x".repeat(30_000);
    await fill(store, "a", big);
    await fill(store, "a", big, big);
    expect(await problem(fill(store, "b", big))).toBe("store-full");
    expect((await textsFrom(store, "a", 0)).length).toBe(3);
    // A batch that is kept in part takes as much as before.
    await store.trim("a", 2);
    await fill(store, "b", big);
    await store.delete("a");
    await fill(store, "b", big);
    expect((await store.get("b")).tail).toBe(2);
  });

  /** Bytes of all pages that are in use, in a directory that no store has open. */
  const usedBytes = async (dir: string): Promise<number> => {
    const { root } = openTables(dir);
    const { free, pageSize, ...stats } = statsOf(root);
    let pages = pagesOf(free) + pagesOf(stats);
    for (const name of root.getKeys({})) pages += pagesOf(statsOf(root.openDB({ name: name as string })));
    await root.close();
    return pages * pageSize;
  };

  const empties: [string, (store: Store, i: number) => Promise<unknown>][] = [
    ["streams", (store, i) => store.create(`some/stream/${i}`)],
    [
      "streams with metadata",
      (store, i) => store.create(`s${i}`, { maxRecords: 7 }, { "content-type": "x".repeat(1000) }),
    ],
    ["empty records", (store, i) => fill(store, `s${i % 3}`, "")],
    ["many empty records at once", (store) => fill(store, "s", ...Array.from({ length: 100 }, () => ""))],
    ["records a little larger than a page", (store) => fill(store, "s", "x".repeat(4200))],
    ["producers", (store, i) => store.claimProducer({ stream: "s", createIfMissing: true, producerId: `id${i}` })],
    [
      "batches of producers",
      async (store, i) => {
        const producer = { id: `producer${i % 10}`, epoch: 0 };
        const appender = await store.openAppender({ stream: "s", createIfMissing: true, producer });
        await appender.append({ records: records(""), producerSeq: Math.floor(i / 10) });
        appender.close();
      },
    ],
  ];
  it.each(empties)("takes about as much as its limit on the disk, whatever it is full of: %s", async (_, add) => {
    const dir = await useDir();
    const maxBytes = 1024 * 1024;
    const store = await open(dir, { maxBytes });
    let outcome = "none";
    for (let i = 0; outcome === "none" && i < 40_000; i += 50) {
      const several = Array.from({ length: 50 }, (_, j) => add(store, i + j));
      outcome = (await Promise.all(several.map(problem))).find((each) => each !== "none") ?? "none";
    }
    expect(outcome).toBe("store-full");
    await store.close();
    const used = await usedBytes(dir);
    expect(used).toBeLessThan(2 * maxBytes);
    // Nor is the half of it lost.
    expect(used).toBeGreaterThan(maxBytes / 3);
  });

  it("can be sealed, and claimed by those who have claimed before", async () => {
    const dir = await useDir();
    const store = await open(dir, { maxBytes: 10_000 });
    await store.claimProducer({ stream: "s", createIfMissing: true, producerId: "p" });
    while ((await problem(fill(store, "s", "x".repeat(100)))) === "none");
    expect(await problem(store.claimProducer({ stream: "s", producerId: "new".repeat(50) }))).toBe("store-full");
    expect(await problem(store.create("other"))).toBe("store-full");
    const { epoch } = await store.claimProducer({ stream: "s", producerId: "p" });
    const sealing = await store.openAppender({ stream: "s", producer: { id: "p", epoch } });
    await sealing.append({ records: [], producerSeq: 0, seal: {} });
    expect(await store.get("s")).toMatchObject({ sealed: true });
    // But nothing is made by sealing it.
    const made = store.append({ stream: "made", createIfMissing: true }, { records: [], seal: {} });
    expect(await problem(made)).toBe("store-full");
    await store.close();
    // The limit was lowered.
    const again = await open(dir, { maxBytes: 2000 });
    await expect(again.claimProducer({ stream: "s", producerId: "p" })).resolves.toMatchObject({ epoch: epoch + 1 });
    await again.close();
  });

  const mountable = canMount();
  it.skipIf(!mountable)("on a full disk refuses appends, loses none, and goes on when there is room", async () => {
    const dir = await useDir();
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=6m", "tmpfs", dir]);
    onTestFinished(() => {
      execFileSync("umount", [dir]);
    });
    const store = await open(join(dir, "data"));
    const text = "x".repeat(200_000);
    let stored = 0;
    let outcome = "none";
    for (; stored < 100 && outcome === "none"; stored++) outcome = await problem(fill(store, "s", text));
    stored--;
    expect(outcome).toBe("store-full");
    expect(stored).toBeGreaterThan(5);
    expect((await store.get("s")).tail).toBe(stored);
    expect(await problem(fill(store, "s", text))).toBe("store-full");
    expect(store.disk?.isFull).toBe(true);
    execFileSync("mount", ["-o", "remount,size=32m", dir]);
    // What is free now is seen without an append.
    await until(10_000, "the space", async () => {
      await store.sweep(Date.now());
      return store.disk?.isFull === false;
    });
    await store.close();
    const again = await open(join(dir, "data"));
    expect(await textsFrom(again, "s", 0)).toEqual(Array.from({ length: stored }, () => text));
    await fill(again, "s", text);
    await again.close();
  });
});

/** Whether a small file system can be made here: as root, outside most containers. */
function canMount(): boolean {
  if (process.getuid?.() !== 0 || !existsSync("/proc/mounts")) return false;
  try {
    execFileSync("unshare", ["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

describe("modes", () => {
  const modeOf = async (path: string): Promise<string> => ((await stat(path)).mode & 0o777).toString(8);
  const warnings: string[] = [];
  const onWarning = (message: string): void => void warnings.push(message);

  it("of what it makes are for its user alone, whatever the umask", async () => {
    const dir = join(await useDir(), "above", "data");
    warnings.length = 0;
    // In a process of its own: the umask is the whole process's.
    const script = `
      process.umask(0);
      const { openLmdbStore } = await import(${JSON.stringify(lmdbModule)});
      const { readdirSync, statSync } = await import("node:fs");
      const store = await openLmdbStore({ dir: ${JSON.stringify(dir)}, maxBytes: 2 ** 30, producerTtlMs: 1000 });
      const modes = readdirSync(${JSON.stringify(dir)}).map((name) => [
        name.replace(/-.*[.]/, "."),
        (statSync(${JSON.stringify(`${dir}/`)} + name).mode & 0o777).toString(8),
      ]);
      await store.close();
      console.log(JSON.stringify(Object.fromEntries(modes)));
    `;
    const out = execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
    expect(JSON.parse(out)).toEqual({ "data.mdb": "600", "lock.mdb": "600", "owner.sock": "600" });
    expect(await modeOf(dir)).toBe("700");
    const store = await open(dir, { onWarning });
    await store.close();
    expect(warnings).toEqual([]);
  });

  it("of what is there stay, and others who can read or change it are warned of", async () => {
    const dir = await useFilled();
    warnings.length = 0;
    await chmod(dir, 0o755);
    await chmod(join(dir, "data.mdb"), 0o664);
    await chmod(join(dir, "lock.mdb"), 0o640);
    const store = await open(dir, { onWarning });
    onTestFinished(() => store.close());
    expect(await textsFrom(store, "s", 0)).toEqual(["a", "b"]);
    expect([await modeOf(dir), await modeOf(join(dir, "data.mdb")), await modeOf(join(dir, "lock.mdb"))]).toEqual([
      "755",
      "664",
      "640",
    ]);
    expect(warnings).toEqual([
      `other users of this machine can read ${dir} (mode 0755): chmod 0700 it`,
      `other users of this machine can change ${join(dir, "data.mdb")} (mode 0664): chmod 0600 it`,
      `other users of this machine can read ${join(dir, "lock.mdb")} (mode 0640): chmod 0600 it`,
    ]);
  });
});
