import { execFileSync } from "node:child_process";
import { mkdtemp, rm, statfs, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { until, within } from "../support/deadline.ts";
import { Filling } from "../support/filling.ts";
import { startServerProcess } from "../support/server-process.ts";

// Real disks that are really full. Only root can mount them.

const diskMiB = 96;
const fillings = 5;

function run(command: string, ...args: string[]): void {
  const PATH = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;
  execFileSync(command, args, { stdio: "pipe", env: { ...process.env, PATH } });
}

async function useDir(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-disk-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** A directory where the file system is mounted, until the end of the test. */
async function useMount(...args: string[]): Promise<string> {
  const dir = await useDir();
  run("mount", ...args, dir);
  // Lazily, because a server that has not ended yet would keep it busy.
  onTestFinished(() => {
    run("umount", "--lazy", dir);
  });
  return dir;
}

const disks: Record<string, () => Promise<string>> = {
  tmpfs: () => useMount("-t", "tmpfs", "-o", `size=${diskMiB}m`, "tmpfs"),
  async "ext4 on a loop device"() {
    const image = join(await useDir(), "image");
    run("truncate", "-s", `${diskMiB}M`, image);
    run("mkfs.ext4", "-q", "-m", "0", image);
    return useMount("-o", "loop", image);
  },
};

async function freeBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return bavail * bsize;
}

/** Takes the space that is left, as another program may. */
async function takeTheRest(dir: string): Promise<string> {
  const path = join(dir, "ballast");
  // ext4 frees blocks once its journal is written, and reports some as free that it does not give.
  await until(25_000, "a full disk", async () => {
    const rest = Buffer.alloc((await freeBytes(dir)) + 64 * 1024);
    await writeFile(path, rest, { flag: "a", flush: true }).catch((error: unknown) => {
      expect(error).toMatchObject({ code: "ENOSPC" });
    });
    return (await freeBytes(dir)) < 512 * 1024;
  });
  return path;
}

/** Whether this user may mount: not in most containers, where the loop devices may be missing too. */
function isAllowed(command: string, ...args: string[]): boolean {
  try {
    run(command, ...args);
    return true;
  } catch {
    return false;
  }
}
const canMount = isAllowed("unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt");
const canLoop = canMount && isAllowed("losetup", "--find");

describe.each(Object.keys(disks))("a full disk: %s", (kind) => {
  const isMissing = kind === "tmpfs" ? !canMount : !canLoop;

  it.skipIf(isMissing)(`is survived ${fillings} times`, { timeout: 600_000 }, async () => {
    const dir = await (disks[kind] as () => Promise<string>)();
    const dataDir = join(dir, "data");
    const server = await startServerProcess(["--admin-port", "0", "--disk-reserve", "8MiB"], { dataDir });
    const filling = new Filling(server.url, 20);
    for (let round = 1; round <= fillings; round++) {
      // The store looks for space four times a second: until then more appends may be refused than end a filling.
      await filling.fill({ stored: 1 });
      expect(await filling.fill({ refusals: 50 }), `appends stored in filling ${round}`).toBeGreaterThan(100);
      expect(await server.metric("sluice_store_disk_full")).toBe(1);
      const ballast = await takeTheRest(dir);
      await filling.fill({ refusals: 50 });
      await filling.verify();
      if (round % 2 === 0) await filling.deleteHalf();
      await filling.trim();
      // Every other time the next filling has only what was freed within the file.
      if (round % 2 === 0) await rm(ballast);
    }
    await filling.verify();
    expect(filling.refusals).toBeGreaterThanOrEqual(fillings * 100);
    // On a disk without a free byte the store can be closed, and opened.
    server.kill("SIGTERM");
    expect(await within(30_000, "the end of the server", server.exited)).toBe(0);
    const next = await startServerProcess(["--disk-reserve", "8MiB"], { dataDir });
    await filling.verify(next.url);
  });

  it.skipIf(isMissing)("is named when a store cannot be made on it", async () => {
    const dir = await (disks[kind] as () => Promise<string>)();
    await takeTheRest(dir);
    const started = startServerProcess([], { dataDir: join(dir, "data") });
    await expect(started).rejects.toThrow(/the disk of .* is full, and a start needs 128 KiB: free some space on it/);
    await expect(started).rejects.not.toThrow(/ at .*[.]ts:/);
  });
});
