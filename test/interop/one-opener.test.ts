import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { tempDir } from "../support/cli.ts";
import { startServerProcess } from "../support/server-process.ts";
import { useSluiceClient } from "../support/sluice-client.ts";

const sluice = join(import.meta.dirname, "../../bin/sluice.js");

// To open an LMDB file beside a process that commits can undo a commit, as strace shows who does.
it.each([
  ["serve", "--port", "0", "--data-dir", "DIR"],
  ["backup", "FILE", "--data-dir", "DIR"],
  ["store", "check", "DIR"],
  ["store", "compact", "DIR"],
])("a server's file is not opened by sluice %s beside it", async (...args) => {
  const dataDir = await tempDir();
  const server = await startServerProcess([], { dataDir });
  const { data } = useSluiceClient(server.url, { protocol: "connect", httpVersion: "2" });
  await data.append("s", [{ data: "stored" }], { createIfMissing: true });
  const dir = await tempDir();
  const names: Record<string, string> = { DIR: dataDir, FILE: join(dir, "file") };
  const trace = join(dir, "trace");
  const command = [process.execPath, sluice, ...args.map((arg) => names[arg] ?? arg)];
  const { status } = spawnSync("strace", ["-f", "-e", "trace=open,openat", "-o", trace, ...command], {
    timeout: 60_000,
  });
  const isRead = args[0] === "backup" || args[1] === "check";
  expect(status).toBe(isRead ? 0 : 6);
  const opened = await readFile(trace, "utf8");
  expect(opened).toMatch(/openat/);
  expect(opened.split("\n").filter((line) => line.includes(dataDir) && line.includes(".mdb"))).toEqual([]);
});
