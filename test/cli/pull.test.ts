import { createHash } from "node:crypto";
import { spawn } from "node:child_process";
import { access, mkdir, open, readFile, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { exitCodes } from "../../src/cli/exit-codes.ts";
import { jsonLines, runCli, someBytes, spawnCli, tempDir, useServer } from "../support/cli.ts";
import type { CliResult } from "../support/cli.ts";
import { until } from "../support/deadline.ts";
import { startStallingProxy } from "../support/stalling-proxy.ts";

const server = useServer();
const run = (args: string[], stdin: string | Uint8Array = ""): Promise<CliResult> =>
  runCli([...args, "--url", server.url], { stdin });
const sha256 = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");
/** Where the copy of the file grows. */
const partOf = (path: string): string => join(dirname(path), `.${basename(path)}.sluice-part`);
const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

const data = someBytes(24 * 1024 * 1024 + 3, 7);
const stream = "pulled/file";

describe("pull", () => {
  beforeAll(async () => {
    // No helper of one test's: this file is for all of them.
    const { mkdtemp, rm } = await import("node:fs/promises");
    const { tmpdir } = await import("node:os");
    const dir = await mkdtemp(join(tmpdir(), "sluice-cli-"));
    const bin = join(import.meta.dirname, "../../bin/sluice.js");
    await writeFile(join(dir, "file"), data);
    const push = spawn(process.execPath, [bin, "push", stream, join(dir, "file"), "--url", server.url], {
      stdio: "ignore",
    });
    await new Promise((resolve) => push.once("close", resolve));
    await rm(dir, { recursive: true });
  });

  it("writes the file, and checks it", async () => {
    const path = join(await tempDir(), "copy");
    const { code, stdout, stderr } = await run(["pull", stream, "-o", path, "--json"]);
    expect(stderr).toBe("");
    expect(code).toBe(0);
    expect(jsonLines(stdout)).toMatchObject([
      {
        stream,
        file: path,
        bytes: data.byteLength,
        sealed: true,
        checked: true,
        sha256: sha256(data),
        resumedAtByte: 0,
      },
    ]);
    expect(sha256(await readFile(path))).toBe(sha256(data));
    expect(await exists(partOf(path))).toBe(false);
  });

  it("writes to standard output", async () => {
    const path = join(await tempDir(), "copy");
    const file = await open(path, "w");
    const bin = join(import.meta.dirname, "../../bin/sluice.js");
    const child = spawn(process.execPath, [bin, "pull", stream, "--url", server.url], {
      stdio: ["ignore", file.fd, "inherit"],
    });
    expect(await new Promise((resolve) => child.once("close", resolve))).toBe(0);
    await file.close();
    expect(sha256(await readFile(path))).toBe(sha256(data));
  });

  it("ends quietly when nobody reads on", async () => {
    const cli = spawnCli(["pull", stream, "--url", server.url], { stdin: "" });
    await until(20_000, "some data", () => cli.stdout.length > 0);
    cli.closeStdout();
    expect(await cli.done).toMatchObject({ code: 0, stderr: "" });
  });

  it.each([
    { name: "a full disk", output: "/dev/full", says: "no space is left on the device" },
    { name: "a directory that is not there", output: "/nowhere/at/all", says: "its directory does not exist" },
    { name: "a directory", output: "/tmp", says: "is a directory" },
  ])("says what is wrong with $name", async ({ output, says }) => {
    const { code, stderr } = await run(["pull", stream, "-o", output]);
    expect(stderr).toContain(says);
    expect(stderr).not.toMatch(/^ {4}at /m);
    expect(code).not.toBe(0);
  });

  it("says that standard output is full", async () => {
    const full = await open("/dev/full", "w");
    const bin = join(import.meta.dirname, "../../bin/sluice.js");
    const child = spawn(process.execPath, [bin, "pull", stream, "--url", server.url], {
      stdio: ["ignore", full.fd, "pipe"],
    });
    let stderr = "";
    child.stderr?.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk));
    expect(await new Promise((resolve) => child.once("close", resolve))).toBe(exitCodes.failure.code);
    await full.close();
    expect(stderr).toBe("error: standard output cannot be written: no space is left on the device\n");
  });

  it("prints records as JSON", async () => {
    await run(["push", "pulled/lines", "-"], "one\ntwo\n");
    const { stdout } = await run(["pull", "pulled/lines", "--json"]);
    expect(jsonLines(stdout)).toMatchObject([
      { seq: 0, text: "one", headers: {} },
      { seq: 1, text: "two" },
    ]);
  });

  it("of a stream that is not sealed takes what is there, and says so", async () => {
    await run(["push", "pulled/open", "-"], "one\ntwo\n");
    const path = join(await tempDir(), "copy");
    const { code, stdout } = await run(["pull", "pulled/open", "-o", path, "--lines"]);
    expect(stdout).toContain("it is not sealed");
    expect(code).toBe(0);
    expect(await readFile(path, "utf8")).toBe("one\ntwo\n");
  });

  it("of an empty stream makes an empty file", async () => {
    await run(["streams", "create", "pulled/empty"]);
    const path = join(await tempDir(), "copy");
    expect((await run(["pull", "pulled/empty", "-o", path])).code).toBe(0);
    expect((await stat(path)).size).toBe(0);
  });

  it("of a stream that is not there writes nothing", async () => {
    const path = join(await tempDir(), "copy");
    const { code, stderr } = await run(["pull", "pulled/nothing", "-o", path]);
    expect(stderr).toContain('there is no stream "pulled/nothing": see `sluice streams list`');
    expect(code).toBe(exitCodes.notFound.code);
    expect(await exists(partOf(path))).toBe(false);
  });

  it("compares only what the checksum covers", async () => {
    await run(["push", "pulled/trimmed", "-", "--seal"], "one\ntwo\n");
    const { stderr } = await run(["pull", "pulled/trimmed"]);
    expect(stderr).toContain("sealed without a checksum");
    await run(["push", "pulled/summed", "-"], "one\ntwo\n");
    await run(["streams", "seal", "pulled/summed", "--sha256", sha256(Buffer.from("onetwo"))]);
    const whole = await run(["pull", "pulled/summed"]);
    expect(whole).toMatchObject({ code: 0, stdout: "onetwo", stderr: "" });
    await run(["streams", "trim", "pulled/summed", "1"]);
    const rest = await run(["pull", "pulled/summed"]);
    expect(rest.stdout).toMatch(/^(two|onetwo)$/);
    if (rest.stdout === "two") expect(rest.stderr).toContain("was not compared");
  });

  describe("that was interrupted", () => {
    async function interrupt(signal: "SIGINT" | "SIGKILL") {
      const path = join(await tempDir(), "copy");
      const proxy = await startStallingProxy(server.url, "down", 14 * 1024 * 1024);
      const cli = spawnCli(["pull", stream, "-o", path, "--url", proxy.url], { stdin: "" });
      await proxy.stalled();
      await until(20_000, "a mark", () => exists(join(partOf(path), "mark.json")));
      cli.kill(signal);
      return { path, result: await cli.done };
    }

    it.each(["SIGINT", "SIGKILL"] as const)("by %s goes on where it stopped", async (signal) => {
      const { path, result } = await interrupt(signal);
      if (signal === "SIGINT") {
        expect(result.stderr).toContain("run the same command again");
        expect(result.code).toBe(exitCodes.interrupted.code);
      }
      expect(await exists(path)).toBe(false);
      const again = await run(["pull", stream, "-o", path, "--json"]);
      expect(again.code, again.stderr).toBe(0);
      const [report] = jsonLines(again.stdout);
      expect(report).toMatchObject({ checked: true, sha256: sha256(data) });
      expect(Number(report?.["resumedAtByte"])).toBeGreaterThanOrEqual(8 * 1024 * 1024);
      expect(sha256(await readFile(path))).toBe(sha256(data));
    });

    it("does not believe a part file that was changed, and keeps it to be looked at", async () => {
      const { path } = await interrupt("SIGKILL");
      const part = await open(join(partOf(path), "data"), "r+");
      await part.write(Buffer.from([(data[1000] ?? 0) ^ 1]), 0, 1, 1000);
      await part.close();
      const { code, stderr } = await run(["pull", stream, "-o", path]);
      expect(stderr).toContain(`was sealed with ${sha256(data)}`);
      expect(code).toBe(exitCodes.mismatch.code);
      expect(await exists(path)).toBe(false);
      expect((await stat(join(partOf(path), "data"))).size).toBe(data.byteLength);
      // The next one begins anew.
      expect((await run(["pull", stream, "-o", path])).code).toBe(0);
      expect(sha256(await readFile(path))).toBe(sha256(data));
    });

    it("begins anew if the stream is another one by now", async () => {
      const path = join(await tempDir(), "copy");
      await mkdir(partOf(path), { mode: 0o700 });
      await writeFile(join(partOf(path), "data"), "x".repeat(100));
      await writeFile(join(partOf(path), "mark.json"), JSON.stringify({ source: "another", seq: 5, offset: 100 }));
      expect((await run(["pull", stream, "-o", path])).code).toBe(0);
      expect(sha256(await readFile(path))).toBe(sha256(data));
    });
  });
});
