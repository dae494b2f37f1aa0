import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, it, onTestFinished } from "vitest";
import { within } from "../support/deadline.ts";

const main = join(import.meta.dirname, "../../bin/sluice.js");

/** What a start does to its files, in order, as strace sees it, until the server listens. */
async function callsOfStart(dir: string, dataDir: string): Promise<string[]> {
  const trace = join(dir, "trace");
  const names =
    "pwrite64,pwritev,write,writev,ftruncate,fallocate,fsync,fdatasync,link,linkat,rename,renameat,renameat2";
  const serve = [process.execPath, main, "serve", "--port", "0", "--data-dir", dataDir];
  const strace = spawn("strace", ["-f", "-y", "-qq", "-e", `trace=${names}`, "-o", trace, ...serve], {
    stdio: ["ignore", "pipe", "ignore"],
    detached: true,
  });
  const pid = strace.pid ?? 0;
  const ended = once(strace, "exit");
  onTestFinished(() => {
    if (strace.exitCode === null && strace.signalCode === null) process.kill(-pid, "SIGKILL");
  });
  await within(60_000, "the server's first line", once(createInterface({ input: strace.stdout }), "line"));
  const server = Number(await readFile(`/proc/${pid}/task/${pid}/children`, "utf8"));
  process.kill(server, "SIGTERM");
  await within(60_000, "the server's end", ended);
  return (await readFile(trace, "utf8")).split("\n").filter((line) => line.includes(dataDir));
}

it("the first start makes a whole store on the disk before it has its name", async () => {
  const dir = await mkdtemp(join(tmpdir(), "sluice-first-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const dataDir = join(dir, "data");
  const calls = await callsOfStart(dir, dataDir);
  const named = calls.findIndex(
    (line) => /link(at)?\(.*\/data\.mdb"/.test(line) && line.includes(`${dataDir}/data.mdb"`),
  );
  expect(named, calls.join("\n").slice(0, 5000)).toBeGreaterThan(0);
  const before = calls.slice(0, named);
  // Nothing is written to the store in its place before it is there, and nothing is left to flush in its draft.
  expect(before.filter((line) => line.includes(`<${dataDir}/data.mdb>`))).toEqual([]);
  const draft = before.filter((line) => /<[^>]*\/new-[^/>]+\/data\.mdb>/.test(line));
  expect(draft.length).toBeGreaterThan(2);
  expect(draft.at(-1)).toMatch(/ (fsync|fdatasync)\(/);
  // The name is on the disk before anything is stored.
  const after = calls.slice(named + 1);
  const flushed = after.findIndex((line) => line.includes(`fsync(`) && line.includes(`<${dataDir}>`));
  const written = after.findIndex((line) => /write/.test(line) && line.includes(`<${dataDir}/data.mdb>`));
  expect(flushed).toBeGreaterThanOrEqual(0);
  expect(written).toBeGreaterThan(flushed);
  expect((await readdir(dataDir)).filter((name) => name.startsWith("new-"))).toEqual([]);
});

it("a start removes what a power cut has left of a store that was being made", async () => {
  const dir = await mkdtemp(join(tmpdir(), "sluice-first-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const dataDir = join(dir, "data");
  await mkdir(join(dataDir, "new-aB3dE9"), { recursive: true });
  await writeFile(join(dataDir, "new-aB3dE9", "data.mdb"), "torn");
  await mkdir(join(dataDir, "new-years-eve"));
  await callsOfStart(dir, dataDir);
  const left = await readdir(dataDir);
  expect(left).toContain("data.mdb");
  expect(left.filter((name) => name.startsWith("new-"))).toEqual(["new-years-eve"]);
});
