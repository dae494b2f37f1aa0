import { createHash } from "node:crypto";
import { execFileSync } from "node:child_process";
import {
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  readFile,
  readdir,
  readlink,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { exitCodes } from "../../src/cli/exit-codes.ts";
import { jsonLines, runCli, someBytes, spawnCli, tempDir, useServer } from "../support/cli.ts";
import type { CliResult } from "../support/cli.ts";
import { until, within } from "../support/deadline.ts";
import { useSluiceClient } from "../support/sluice-client.ts";
import { startStallingProxy } from "../support/stalling-proxy.ts";

const server = useServer();
const run = (args: string[], stdin: string | Uint8Array = "", url = server.url): Promise<CliResult> =>
  runCli([...args, "--url", url], { stdin });
const sha256 = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");
const partOf = (path: string): string => join(dirname(path), `.${basename(path)}.sluice-part`);

let names = 0;

/** A sealed stream with the data. */
async function pushed(data: Uint8Array | string): Promise<string> {
  const path = join(await tempDir(), "pushed");
  await writeFile(path, data);
  const stream = `targets/${++names}`;
  const { code, stderr } = await run(["push", stream, path]);
  expect(code, stderr).toBe(0);
  return stream;
}

async function pull(stream: string, path: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await run(["pull", stream, "-o", path, ...args]);
  expect(code, stderr).toBe(0);
}

describe("the target of a pull", () => {
  it("is written by one pull at a time", async () => {
    const path = join(await tempDir(), "copy");
    const data = someBytes(12 * 1024 * 1024, 1);
    const [first, second] = [await pushed(data), await pushed(someBytes(12 * 1024 * 1024, 2))];
    const proxy = await startStallingProxy(server.url, "down", 2 * 1024 * 1024);
    const cli = spawnCli(["pull", first, "-o", path, "--url", proxy.url], { stdin: "" });
    await proxy.stalled();
    const other = await run(["pull", second, "-o", path]);
    expect(other.stderr).toContain(`another pull writes ${path}`);
    expect(other.code).toBe(exitCodes.conflict.code);
    cli.kill("SIGKILL");
    await cli.done;
    await pull(first, path);
    expect(sha256(await readFile(path))).toBe(sha256(data));
  });

  it("is one of them, whole, when many begin at once", async () => {
    const path = join(await tempDir(), "copy");
    const files = [1, 2, 3].map((seed) => someBytes(3 * 1024 * 1024, seed));
    const streams = await Promise.all(files.map(pushed));
    const results = await Promise.all(streams.map((stream) => run(["pull", stream, "-o", path])));
    for (const { code, stderr } of results) {
      expect([0, exitCodes.conflict.code], stderr).toContain(code);
    }
    if (results.some(({ code }) => code === 0)) {
      expect(files.map(sha256)).toContain(sha256(await readFile(path)));
    }
    expect((await readdir(dirname(path))).filter((name) => name.endsWith(".sluice-part"))).toEqual([]);
  });

  it("keeps its mode, and a new one gets that of any new file", async () => {
    const dir = await tempDir();
    const stream = await pushed("new");
    await writeFile(join(dir, "old"), "old");
    await chmod(join(dir, "old"), 0o640);
    await pull(stream, join(dir, "old"));
    await pull(stream, join(dir, "new"));
    await writeFile(join(dir, "other"), "");
    expect((await stat(join(dir, "old"))).mode & 0o777).toBe(0o640);
    expect((await stat(join(dir, "new"))).mode).toBe((await stat(join(dir, "other"))).mode);
    expect(await readFile(join(dir, "old"), "utf8")).toBe("new");
  });

  it.runIf(process.getuid?.() === 0)("keeps its owner", async () => {
    const path = join(await tempDir(), "copy");
    await writeFile(path, "old");
    await chown(path, 1234, 2345);
    await pull(await pushed("new"), path);
    expect(await stat(path)).toMatchObject({ uid: 1234, gid: 2345 });
  });

  it("keeps its hard links", async () => {
    const path = join(await tempDir(), "copy");
    await writeFile(path, "old and longer");
    await link(path, `${path}-2`);
    await pull(await pushed("new"), path);
    expect(await readFile(`${path}-2`, "utf8")).toBe("new");
    expect((await stat(path)).nlink).toBe(2);
  });

  it("is where a link leads", async () => {
    const dir = await tempDir();
    await mkdir(join(dir, "far"));
    await writeFile(join(dir, "far/file"), "old");
    await symlink("far/file", join(dir, "link"));
    await pull(await pushed("new"), join(dir, "link"));
    expect(await readlink(join(dir, "link"))).toBe("far/file");
    expect(await readFile(join(dir, "far/file"), "utf8")).toBe("new");
  });

  it("is not made through a link that leads nowhere", async () => {
    const path = join(await tempDir(), "link");
    await symlink("nowhere", path);
    const { code, stderr } = await run(["pull", await pushed("new"), "-o", path]);
    expect(stderr).toContain(`${path} is a link to a file that does not exist`);
    expect(code).toBe(exitCodes.usage.code);
  });

  it.each([
    { name: "a link", make: (path: string, dir: string) => symlink(dir, path) },
    { name: "a file", make: (path: string) => writeFile(path, "mine") },
    {
      name: "a directory that others can write to",
      make: (path: string) => mkdir(path).then(() => chmod(path, 0o777)),
    },
  ])("is not written by way of $name in the part's place", async ({ make }) => {
    const [path, elsewhere] = [join(await tempDir(), "copy"), await tempDir()];
    await make(partOf(path), elsewhere);
    const before = await lstat(partOf(path));
    const { code, stderr } = await run(["pull", await pushed("new"), "-o", path]);
    expect(stderr).toContain(`${partOf(path)} is in the way`);
    expect(code).toBe(exitCodes.conflict.code);
    expect((await lstat(partOf(path))).mode).toBe(before.mode);
    expect(await readdir(elsewhere)).toEqual([]);
  });

  it("may have a name of 255 bytes, in a directory with a long path", async () => {
    const dir = join(await tempDir(), "d".repeat(200));
    await mkdir(dir);
    const path = join(dir, "\u00fc".repeat(127) + "x");
    await pull(await pushed("long"), path);
    expect(await readFile(path, "utf8")).toBe("long");
    expect(await readdir(dir)).toEqual([basename(path)]);
  });

  it("leaves other files with names like it alone", async () => {
    const path = join(await tempDir(), "copy");
    await writeFile(`${path}.part`, "mine");
    await pull(await pushed("new"), path);
    expect(await readFile(`${path}.part`, "utf8")).toBe("mine");
  });

  it("with lines is compared without the newlines, also after an interruption", async () => {
    const { data: api } = useSluiceClient(server.url);
    const stream = `targets/${++names}`;
    // A newline in a record's data is data.
    const records = Array.from({ length: 14 }, (_, i) => Buffer.from(`${i} ${"x\ny".repeat(300_000)}\n`));
    for (const record of records) await api.append(stream, [{ data: record }], { createIfMissing: true });
    const digest = sha256(Buffer.concat(records));
    await api.sealStream(stream, { sha256: Buffer.from(digest, "hex") });
    const path = join(await tempDir(), "copy");
    const proxy = await startStallingProxy(server.url, "down", 11 * 1024 * 1024);
    const cli = spawnCli(["pull", stream, "-o", path, "--lines", "--url", proxy.url], { stdin: "" });
    await proxy.stalled();
    await until(20_000, "a mark", () => stat(join(partOf(path), "mark.json")).then(Boolean, () => false));
    cli.kill("SIGKILL");
    await cli.done;
    const { code, stdout, stderr } = await run(["pull", stream, "-o", path, "--lines", "--json"]);
    expect(code, stderr).toBe(0);
    expect(jsonLines(stdout)).toMatchObject([{ checked: true, sha256: digest }]);
    expect(Number(jsonLines(stdout)[0]?.["resumedAtByte"])).toBeGreaterThan(0);
  });
});

describe.runIf(process.platform !== "win32")("a named pipe", () => {
  async function fifo(): Promise<string> {
    const path = join(await tempDir(), "fifo");
    execFileSync("mkfifo", [path]);
    return path;
  }

  it("without a reader is waited for until Ctrl-C", async () => {
    const path = await fifo();
    const cli = spawnCli(["pull", await pushed("new"), "-o", path, "--url", server.url], { stdin: "" });
    await until(20_000, "the process waits", () => isWaiting(cli.pid));
    cli.kill("SIGINT");
    expect((await within(20_000, "the end of the pull", cli.done)).code).toBe(exitCodes.interrupted.code);
  });

  it("gets the data", async () => {
    const path = await fifo();
    const data = someBytes(1024 * 1024);
    const reading = readFile(path);
    const { code, stderr } = await run(["pull", await pushed(data), "-o", path]);
    expect(code, stderr).toBe(0);
    expect(sha256(await within(20_000, "the data", reading))).toBe(sha256(data));
  });

  it("cannot be pushed as a file, and is not waited for", async () => {
    const { code, stderr } = await run(["push", `targets/${++names}`, await fifo()]);
    expect(stderr).toContain("is not a regular file");
    expect(code).toBe(exitCodes.usage.code);
  });
});

/** Whether the process has a connection, and so has got past its start. */
async function isWaiting(pid: number): Promise<boolean> {
  const fds = await readdir(`/proc/${pid}/fd`);
  const links = await Promise.all(fds.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => "")));
  return links.filter((to) => to.startsWith("socket:")).length > 3;
}
