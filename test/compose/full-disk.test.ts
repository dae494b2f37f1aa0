import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { within } from "../support/deadline.ts";
import { Filling } from "../support/filling.ts";
import { startServerProcess } from "../support/server-process.ts";

/** Limits the size of the files that the process writes, in bytes: to a write beyond it the system answers EFBIG. */
function limitFiles(pid: number, bytes: number | "unlimited"): void {
  execFileSync("prlimit", ["--pid", String(pid), `--fsize=${bytes}:`]);
}

// What a full disk is to the store, without the rights to mount one; test/interop/full-disk.test.ts has real disks.
it.runIf(process.platform === "linux")(
  "a file that cannot grow refuses appends, loses none, and takes them again",
  { timeout: 300_000 },
  async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "sluice-full-"));
    onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
    const server = await startServerProcess(["--admin-port", "0"], { dataDir });
    const filling = new Filling(server.url, 20);
    for (const mebibytes of [24, 40]) {
      limitFiles(server.pid, mebibytes * 1024 * 1024);
      expect(await filling.fill({ refusals: 100 })).toBeGreaterThan(50);
      expect(await server.metric("sluice_store_disk_full")).toBe(1);
      await filling.verify();
    }
    await filling.deleteHalf();
    await filling.trim();
    expect(await filling.fill({ refusals: 100 }), "appends stored in what was freed").toBeGreaterThan(50);
    limitFiles(server.pid, "unlimited");
    await server.logged(/"msg":"the disk of .* is full .*appends are refused until there is space/);
    // Space that is there again is found by the next appends, without a restart.
    await filling.fill({ stored: 1000 });
    await server.logged(/has space again: appends are stored/);
    expect(await server.metric("sluice_store_disk_full")).toBe(0);
    server.kill("SIGTERM");
    expect(await within(30_000, "the end of the server", server.exited)).toBe(0);
    await filling.verify((await startServerProcess([], { dataDir })).url);
  },
);
