import { createHash } from "node:crypto";
import { readFile, rename, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { exitCodes } from "../../src/cli/exit-codes.ts";
import { jsonLines, runCli, someBytes, spawnCli, tempDir, useServer } from "../support/cli.ts";
import type { CliResult } from "../support/cli.ts";
import { until } from "../support/deadline.ts";
import { startStallingProxy } from "../support/stalling-proxy.ts";

const chunkBytes = 256 * 1024;
const server = useServer();
const run = (args: string[], url = server.url): Promise<CliResult> => runCli([...args, "--url", url]);

let names = 0;
const newName = (): string => `files/${++names}`;

async function newFile(bytes: Uint8Array | string, name = "file.bin"): Promise<string> {
  const path = join(await tempDir(), name);
  await writeFile(path, bytes);
  return path;
}

async function show(stream: string): Promise<Record<string, unknown>> {
  const { stdout, stderr } = await run(["streams", "show", stream, "--json"]);
  const [info] = jsonLines(stdout);
  if (info === undefined) throw new Error(stderr);
  return info;
}

async function pulled(stream: string): Promise<Buffer> {
  const path = join(await tempDir(), "copy");
  const result = await run(["pull", stream, "-o", path]);
  expect(result.code, result.stderr).toBe(0);
  return readFile(path);
}

const sha256 = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");

describe("push of a file", () => {
  it.each([
    { name: "nothing", size: 0 },
    { name: "one byte", size: 1 },
    { name: "a whole chunk", size: chunkBytes },
    { name: "some chunks and a bit", size: 5 * chunkBytes + 7 },
  ])("stores $name in chunks, sealed with its checksum", async ({ size }) => {
    const data = someBytes(size);
    const stream = newName();
    const { code, stdout, stderr } = await run(["push", stream, await newFile(data), "--json"]);
    expect(stderr).toBe("");
    expect(code).toBe(0);
    const records = Math.max(1, Math.ceil(size / chunkBytes));
    const wanted = { stream, bytes: size, records, sealed: true, sha256: sha256(data), resumedAtByte: 0 };
    expect(jsonLines(stdout)).toMatchObject([wanted]);
    expect(await show(stream)).toMatchObject({ tail: records, sealed: true, sha256: sha256(data), sha256FirstSeq: 0 });
    expect(sha256(await pulled(stream))).toBe(sha256(data));
  });

  it("says which file it is in the first record's headers", async () => {
    const stream = newName();
    await run(["push", stream, await newFile("hello", "caf\u00e9 1.txt")]);
    const [record] = jsonLines((await run(["tail", stream, "--json"])).stdout);
    expect(record).toMatchObject({
      text: "hello",
      headers: { "file-name": "caf\u00e9 1.txt", "file-size": "5", "chunk-bytes": String(chunkBytes) },
    });
  });

  it("leaves the stream open with --no-seal, and seals it when asked again", async () => {
    const data = someBytes(chunkBytes + 1);
    const path = await newFile(data);
    const stream = newName();
    expect((await run(["push", stream, path, "--no-seal"])).stdout).toContain("not sealed");
    expect(await show(stream)).toMatchObject({ tail: 2, sealed: false });
    expect((await run(["push", stream, path])).code).toBe(0);
    expect(await show(stream)).toMatchObject({ tail: 2, sealed: true, sha256: sha256(data) });
  });

  it("does nothing for a file that is there already", async () => {
    const path = await newFile(someBytes(1000));
    const stream = newName();
    await run(["push", stream, path]);
    const before = await show(stream);
    const { code, stdout } = await run(["push", stream, path]);
    expect(stdout).toContain("already");
    expect(code).toBe(0);
    // What counts is the content: a copy with another name and time is the same file.
    const copy = await newFile(await readFile(path), "copy");
    expect((await run(["push", stream, copy])).code).toBe(0);
    expect(await show(stream)).toEqual(before);
  });

  it.each([
    { name: "another content", change: (path: string) => writeFile(path, someBytes(1000, 2)) },
    { name: "another size", change: (path: string) => writeFile(path, "x") },
  ])("refuses $name for a sealed stream", async ({ change }) => {
    const path = await newFile(someBytes(1000));
    const stream = newName();
    await run(["push", stream, path]);
    await change(path);
    const { code, stderr } = await run(["push", stream, path]);
    expect(stderr).toContain("is sealed, and holds another file");
    expect(code).toBe(exitCodes.conflict.code);
  });

  it("refuses a stream with something else in it", async () => {
    const stream = newName();
    await runCli(["push", stream, "-", "--url", server.url], { stdin: "a line\n" });
    const { code, stderr } = await run(["push", stream, await newFile("x")]);
    expect(stderr).toContain("records that are no pushed file");
    expect(code).toBe(exitCodes.conflict.code);
  });

  it.each([
    {
      name: "a file that is not there",
      make: async () => join(await tempDir(), "none"),
      says: "there is no such file",
    },
    { name: "a directory", make: () => tempDir(), says: "is a directory: give a file" },
    { name: "a device", make: () => Promise.resolve("/dev/null"), says: "is not a regular file" },
  ])("refuses $name", async ({ make, says }) => {
    const { code, stderr } = await run(["push", newName(), await make()]);
    expect(stderr).toContain(says);
    expect(code).not.toBe(0);
    expect(stderr).not.toMatch(/^ {4}at /m);
  });

  it.runIf(process.platform === "linux")("takes a file that reports no size", async () => {
    const stream = newName();
    const { code, stderr } = await run(["push", stream, "/proc/version"]);
    expect(code, stderr).toBe(0);
    expect(await pulled(stream)).toEqual(await readFile("/proc/version"));
  });

  it("follows a link, and refuses a name that no stream can have", async () => {
    const path = await newFile("x");
    await symlink(path, `${path}-link`);
    expect((await run(["push", newName(), `${path}-link`])).code).toBe(0);
    const { code, stderr } = await run(["push", "Not A Name", path]);
    expect(stderr).toContain("name");
    expect(code).toBe(exitCodes.usage.code);
  });

  it("takes chunks of another size, and reports one that the server does not take", async () => {
    const stream = newName();
    const path = await newFile(someBytes(10_000));
    expect((await run(["push", stream, path, "--chunk-size", "1000"])).code).toBe(0);
    expect(await show(stream)).toMatchObject({ tail: 10 });
    const refused = newName();
    const large = await run(["push", refused, await newFile(someBytes(3_000_000)), "--chunk-size", "2MiB"]);
    expect(large.stderr).toContain("limit");
    expect(large.code).not.toBe(0);
    // No empty stream is left behind.
    expect((await run(["streams", "show", refused])).code).toBe(exitCodes.notFound.code);
  });
});

describe("an interrupted push", () => {
  const size = 16 * 1024 * 1024 + 5;

  /** A push that stops in the middle, with some chunks stored. */
  async function interrupt(signal: "SIGINT" | "SIGKILL") {
    const data = someBytes(size, 3);
    const path = await newFile(data);
    const stream = newName();
    const proxy = await startStallingProxy(server.url, "up", 8 * 1024 * 1024);
    const cli = spawnCli(["push", stream, path, "--url", proxy.url], { stdin: "" });
    await proxy.stalled();
    await until(20_000, "some chunks are stored", async () => Number((await show(stream))["tail"]) > 0);
    cli.kill(signal);
    return { data, path, stream, result: await cli.done };
  }

  it.each(["SIGINT", "SIGKILL"] as const)("by %s goes on where it stopped", async (signal) => {
    const { data, path, stream, result } = await interrupt(signal);
    if (signal === "SIGINT") {
      expect(result.stderr).toContain("run the same command again");
      expect(result.code).toBe(exitCodes.interrupted.code);
    }
    const { sealed, tail } = await show(stream);
    expect(sealed).toBe(false);
    const again = await run(["push", stream, path, "--json"]);
    expect(again.code, again.stderr).toBe(0);
    const [report] = jsonLines(again.stdout);
    // The server may have stored more since: never less.
    expect(Number(report?.["resumedAtByte"])).toBeGreaterThanOrEqual(Number(tail) * chunkBytes);
    expect(Number(report?.["resumedAtByte"])).toBeGreaterThan(0);
    expect(await show(stream)).toMatchObject({
      tail: Math.ceil(size / chunkBytes),
      sealed: true,
      sha256: sha256(data),
    });
    expect(sha256(await pulled(stream))).toBe(sha256(data));
  });

  it("refuses to go on with a changed file, and says what to do", async () => {
    const { path, stream } = await interrupt("SIGKILL");
    await utimes(path, new Date(), new Date(Date.now() + 5000));
    const changed = await run(["push", stream, path]);
    expect(changed.stderr).toContain("has been changed since");
    expect(changed.stderr).toContain(`sluice streams delete ${stream}`);
    expect(changed.code).toBe(exitCodes.conflict.code);
  });

  it("refuses to go on with another file, and says what to do", async () => {
    const { path, stream } = await interrupt("SIGKILL");
    await rename(path, `${path}-2`);
    const other = await run(["push", stream, `${path}-2`]);
    expect(other.stderr).toContain("holds the beginning of another file, file.bin");
    expect(other.code).toBe(exitCodes.conflict.code);
  });
});

describe("two pushes of one file at once", () => {
  it("end well, and store it once", async () => {
    const data = someBytes(8 * 1024 * 1024 + 1, 4);
    const path = await newFile(data);
    const stream = newName();
    const both = await Promise.all([run(["push", stream, path]), run(["push", stream, path])]);
    for (const { code, stderr } of both) expect(code, stderr).toBe(0);
    expect(await show(stream)).toMatchObject({ tail: 33, sealed: true, sha256: sha256(data) });
  });

  it("refuse the second one if the files differ", async () => {
    const stream = newName();
    const paths = await Promise.all([newFile(someBytes(9_000_000, 5), "a"), newFile(someBytes(9_000_000, 6), "b")]);
    const results = await Promise.all(paths.map((path) => run(["push", stream, path])));
    const codes = results.map(({ code }) => code);
    expect(codes.sort()).toEqual([0, exitCodes.conflict.code]);
    expect(await show(stream)).toMatchObject({ sealed: true, tail: 35 });
  });
});
