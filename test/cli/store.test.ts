import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { formatCheckpoint, checkpointAfter, parseCheckpoint } from "../../src/client/index.ts";
import type { SluiceClient } from "../../src/client/index.ts";
import { jsonLines, runCli, spawnCli, tempDir } from "../support/cli.ts";
import { flipBits, useFilledStore } from "../support/damaged-store.ts";
import { reasonOf } from "../support/data-errors.ts";
import { until, within } from "../support/deadline.ts";
import { startServerProcess } from "../support/server-process.ts";
import { storedTexts, useSluiceClient } from "../support/sluice-client.ts";

const lane = { protocol: "connect", httpVersion: "2" } as const;

/** Writers that append batches of two records, `i.0` and `i.1`, until they are stopped; `acked` is how many each has stored. */
function startWriters({ data }: SluiceClient, count: number): { acked: number[]; stop: () => Promise<void> } {
  const acked = Array.from({ length: count }, () => 0);
  let stopped = false;
  const write = async (writer: number): Promise<void> => {
    while (!stopped) {
      const i = acked[writer] ?? 0;
      await data.append(`w${writer}`, [{ data: `${i}.0` }, { data: `${i}.1` }], { createIfMissing: true });
      acked[writer] = i + 1;
    }
  };
  const writing = acked.map((_, writer) => write(writer));
  return {
    acked,
    stop: async () => {
      stopped = true;
      await Promise.all(writing);
    },
  };
}

it("a backup of a server that is written to is one moment, and is served again under new uids", async () => {
  const dataDir = await tempDir();
  const server = await startServerProcess([], { dataDir });
  const client = useSluiceClient(server.url, lane);
  const writers = startWriters(client, 4);
  await until(20_000, "some batches", () => writers.acked.every((count) => count > 20));
  const file = join(await tempDir(), "backup.sluice");
  const before = [...writers.acked];
  const backedUp = await runCli(["backup", file, "--data-dir", dataDir, "--json"]);
  const after = [...writers.acked];
  expect(backedUp).toMatchObject({ code: 0, stderr: "" });
  expect(jsonLines(backedUp.stdout)).toMatchObject([{ streams: 4, damaged: 0, file }]);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect((await runCli(["store", "check", file])).code).toBe(0);
  expect((await runCli(["store", "check", dataDir])).code).toBe(0);
  let checkpoint = "";
  for await (const record of client.data.read("w0")) checkpoint = formatCheckpoint(checkpointAfter(record));
  await writers.stop();

  const restored = await tempDir();
  expect(await runCli(["restore", file, "--data-dir", restored])).toMatchObject({ code: 0, stderr: "" });
  expect((await runCli(["store", "check", restored])).stdout).toMatch(/: all right$/m);
  const again = await startServerProcess([], { dataDir: restored });
  const reader = useSluiceClient(again.url, lane);
  for (const writer of [0, 1, 2, 3]) {
    const texts = await storedTexts(reader, `w${writer}`);
    // All that was acknowledged before, and nothing that was not sent by then; no half of a batch.
    expect(texts.length / 2).toBeGreaterThanOrEqual(before[writer] ?? 0);
    expect(texts.length / 2).toBeLessThanOrEqual((after[writer] ?? 0) + 1);
    expect(texts).toEqual(Array.from({ length: texts.length }, (_, i) => `${i >> 1}.${i & 1}`));
  }
  const resumed = reader.data.read("w0", { from: parseCheckpoint(checkpoint) });
  expect(await reasonOf(resumed[Symbol.asyncIterator]().next())).toBe("STREAM_REPLACED");
});

it("a backup goes through a pipe, and tells what it cannot do", async () => {
  const dataDir = await useFilledStore();
  const target = join(await tempDir(), "restored");
  const pipe = `"$SLUICE" backup - --data-dir "${dataDir}" | "$SLUICE" restore - --data-dir "${target}"`;
  const sluice = join(import.meta.dirname, "../../bin/sluice.js");
  execFileSync("sh", ["-c", pipe.replaceAll('"$SLUICE"', `"${process.execPath}" "${sluice}"`)], { stdio: "pipe" });
  expect((await runCli(["store", "check", target])).stdout).toMatch(/1 stream with 10 records.*: all right/);

  const head = `"$SLUICE" backup - --data-dir "${dataDir}" --rate 1KiB | head -c 10; exit \${PIPESTATUS[0]}`;
  const cutOff = spawnSync("bash", ["-c", head.replaceAll('"$SLUICE"', `"${process.execPath}" "${sluice}"`)]);
  expect(cutOff.stderr.toString()).toMatch(/standard output was closed before the backup was whole/);
  expect(cutOff.status).toBe(1);

  const file = join(await tempDir(), "file");
  const failures: [string[], number, RegExp][] = [
    [["restore", file, "--data-dir", target], 1, /cannot be read: there is no such file/],
    [["backup", file, "--data-dir", join(target, "absent")], 1, /there is no data.mdb in it/],
    [["backup", join(target, "absent", "file"), "--data-dir", dataDir], 1, /its directory does not exist/],
    [["backup", file, "--data-dir", dataDir, "--rate", "fast"], 2, /--rate/],
    [["store", "check", join(target, "absent")], 1, /cannot be read: there is no such file/],
    [["store", "compact", join(target, "absent")], 1, /there is no data.mdb in it/],
  ];
  for (const [args, code, message] of failures) {
    const result = await runCli(args);
    expect(result.stderr).toMatch(message);
    expect(result.code).toBe(code);
  }
  expect(await runCli(["backup", file, "--data-dir", dataDir])).toMatchObject({ code: 0 });
  const exists = await runCli(["backup", file, "--data-dir", dataDir]);
  expect(exists).toMatchObject({ code: 6 });
  expect(exists.stderr).toMatch(/exists already: give another name, or --force/);
  expect(await runCli(["backup", file, "--data-dir", dataDir, "--force"])).toMatchObject({ code: 0 });
  expect(await runCli(["restore", file, "--data-dir", target])).toMatchObject({ code: 6 });
  await writeFile(file, (await readFile(file)).subarray(0, 200));
  expect(await runCli(["store", "check", file])).toMatchObject({ code: 7 });
  const cut = await runCli(["restore", file, "--data-dir", join(target, "other")]);
  expect(cut.stderr).toMatch(/the backup is not whole \(it is cut off\)/);
  expect(cut.code).toBe(7);
});

it("a restore that waits for its input is interrupted, and leaves nothing", async () => {
  const dataDir = await tempDir();
  const restoring = spawnCli(["restore", "-", "--data-dir", dataDir]);
  restoring.write("sluice backup");
  await until(20_000, "its beginning", async () => (await readdir(dataDir)).length > 0);
  restoring.kill("SIGINT");
  expect((await within(10_000, "its end", restoring.done)).code).toBe(130);
  expect(await readdir(dataDir)).toEqual([]);
});

it("damage is found, named, and no reason to back up nothing", async () => {
  const dataDir = await useFilledStore();
  await flipBits(dataDir, "second of 2");
  const checked = await runCli(["store", "check", dataDir]);
  expect(checked.stdout).toMatch(/stream "s" at seq 4: its batch is not as it was stored\n.*: 1 finding/);
  expect(checked.code).toBe(7);
  const file = join(await tempDir(), "file");
  const backedUp = await runCli(["backup", file, "--data-dir", dataDir]);
  expect(backedUp.stderr).toMatch(/1 batch is damaged in the store, and copied as they are/);
  expect(backedUp.code).toBe(7);
  expect((await runCli(["store", "check", file])).stdout).toMatch(/1 batch is damaged/);
});

it("a backup that is interrupted or killed leaves no file of its name, and the server goes on", async () => {
  const dataDir = await tempDir();
  const server = await startServerProcess(["--sweep-interval", "100ms"], { dataDir });
  const client = useSluiceClient(server.url, lane);
  for (let i = 0; i < 20; i++) {
    await client.data.append("s", [{ data: new Uint8Array(100_000) }], { createIfMissing: true });
  }
  const dir = await tempDir();
  const file = join(dir, "file");
  const begin = async (from = dataDir): Promise<ReturnType<typeof spawnCli>> => {
    const backup = spawnCli(["backup", file, "--data-dir", from, "--rate", "100KiB"]);
    await until(20_000, "its first bytes", async () => {
      const [part] = await readdir(dir);
      return part !== undefined && (await stat(join(dir, part))).size > 0;
    });
    return backup;
  };
  const interrupted = await begin();
  interrupted.kill("SIGINT");
  expect((await interrupted.done).code).toBe(130);
  expect(await readdir(dir)).toEqual([]);

  // So does one whose server is killed.
  const other = await tempDir();
  const dying = await startServerProcess([], { dataDir: other });
  for (let i = 0; i < 5; i++) {
    const record = { data: new Uint8Array(500_000) };
    await useSluiceClient(dying.url, lane).data.append("s", [record], { createIfMissing: true });
  }
  const orphan = await begin(other);
  dying.kill("SIGKILL");
  const { code, stderr } = await orphan.done;
  expect(stderr).toMatch(/the server that has it ended before all was read/);
  expect(code).toBe(1);
  expect(await readdir(dir)).toEqual([]);

  const killed = await begin();
  killed.kill("SIGKILL");
  await killed.done;
  expect(existsSync(file)).toBe(false);
  // What it saw is not kept for ever: the file does not grow by what is written over and over.
  const grow = async (): Promise<number> => {
    for (let i = 0; i < 60; i++) {
      await client.data.append("t", [{ data: new Uint8Array(400_000) }], { createIfMissing: true });
      await client.data.deleteStream("t");
    }
    return (await stat(join(dataDir, "data.mdb"))).size;
  };
  const grown = await grow();
  expect((await grow()) - grown).toBeLessThan(10_000_000);
  expect((await runCli(["store", "check", dataDir])).code).toBe(0);
});

it("a store that a server uses is not made compact, and a smaller one is what it was", async () => {
  const dataDir = await tempDir();
  const server = await startServerProcess([], { dataDir });
  const { data } = useSluiceClient(server.url, lane);
  await data.append("s", [{ data: "kept" }], { createIfMissing: true });
  const { uid } = await data.getStream("s");
  for (let i = 0; i < 20; i++) await data.append("big", [{ data: new Uint8Array(900_000) }], { createIfMissing: true });
  await data.deleteStream("big");
  const used = await runCli(["store", "compact", dataDir]);
  expect(used.stderr).toMatch(/is in use \(process \d+ has it\): stop that server/);
  expect(used.code).toBe(6);
  server.kill("SIGTERM");
  await server.exited;
  const { code, stdout } = await runCli(["store", "compact", dataDir, "--json"]);
  expect(code).toBe(0);
  const [result] = jsonLines(stdout) as { before: number; after: number }[];
  expect(result?.after).toBeLessThan((result?.before ?? 0) / 3);
  const again = await startServerProcess([], { dataDir });
  const client = useSluiceClient(again.url, lane);
  expect(await storedTexts(client, "s")).toEqual(["kept"]);
  expect((await client.data.getStream("s")).uid).toBe(uid);
});

const canMount = process.getuid?.() === 0 && existsSync("/proc/mounts");
it.skipIf(!canMount)(
  "a full disk ends a backup, a restore and a compaction with a sentence, and loses nothing",
  async () => {
    const dataDir = await tempDir();
    const server = await startServerProcess([], { dataDir });
    const { data } = useSluiceClient(server.url, lane);
    for (let i = 0; i < 10; i++) await data.append("s", [{ data: new Uint8Array(900_000) }], { createIfMissing: true });
    server.kill("SIGTERM");
    await server.exited;
    const small = await tempDir();
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=6m", "tmpfs", small]);
    onTestFinished(() => {
      execFileSync("umount", [small]);
    });
    const toSmall = await runCli(["backup", join(small, "file"), "--data-dir", dataDir]);
    expect(toSmall.stderr).toMatch(/cannot be written: no space is left/);
    expect(await readdir(small)).toEqual([]);
    const file = join(await tempDir(), "file");
    expect(await runCli(["backup", file, "--data-dir", dataDir])).toMatchObject({ code: 0 });
    const restored = await runCli(["restore", file, "--data-dir", join(small, "data")]);
    expect(restored.stderr).toMatch(/no room left \(the disk of .* is full/);
    expect(restored.code).toBe(1);
    expect(await readdir(join(small, "data"))).toEqual([]);
    execFileSync("mount", ["-o", "remount,size=14m", small]);
    expect(await runCli(["restore", file, "--data-dir", join(small, "data")])).toMatchObject({ code: 0 });
    const compacted = await runCli(["store", "compact", join(small, "data")]);
    expect(compacted.stderr).toMatch(/no room left/);
    expect(compacted.code).toBe(1);
    expect((await runCli(["store", "check", join(small, "data")])).stdout).toMatch(/all right/);
    expect((await readdir(join(small, "data"))).sort()).toEqual(["data.mdb", "lock.mdb"]);
  },
);
