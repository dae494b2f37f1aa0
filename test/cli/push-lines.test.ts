import { describe, expect, it } from "vitest";
import { exitCodes } from "../../src/cli/exit-codes.ts";
import { jsonLines, runCli, spawnCli, useServer } from "../support/cli.ts";
import type { CliResult } from "../support/cli.ts";
import { until } from "../support/deadline.ts";

const server = useServer();
const run = (args: string[], stdin: string | Uint8Array = ""): Promise<CliResult> =>
  runCli([...args, "--url", server.url], { stdin });

let names = 0;
const newName = (): string => `lines/${++names}`;

async function stored(stream: string): Promise<Record<string, unknown>[]> {
  const { stdout } = await run(["tail", stream, "--from", "head", "--no-follow", "--json"]);
  return jsonLines(stdout);
}

describe("push of lines", () => {
  it("makes a record of each", async () => {
    const stream = newName();
    const { code, stdout, stderr } = await run(["push", stream, "-"], "one\n\nthree \r\nfour");
    expect(stderr).toBe("");
    expect(stdout).toBe(`appended 4 lines to ${stream}: seq 0 to 3\n`);
    expect(code).toBe(0);
    expect((await stored(stream)).map(({ text }) => text)).toEqual(["one", "", "three \r", "four"]);
  });

  it("reads standard input without being told", async () => {
    const stream = newName();
    expect((await run(["push", stream, "--json"], "a\n")).stdout).toBe(
      `{"stream":"${stream}","records":1,"firstSeq":0,"nextSeq":1,"sealed":false}\n`,
    );
  });

  it("keeps bytes that are no text", async () => {
    const stream = newName();
    await run(["push", stream, "-"], Buffer.from([0xff, 0x00, 0x0a]));
    expect(await stored(stream)).toMatchObject([{ base64: "/wA=" }]);
  });

  it("keeps the order of a hundred thousand", async () => {
    const stream = newName();
    const lines = Array.from({ length: 100_000 }, (_, i) => `line ${i}`);
    const { stdout } = await run(["push", stream, "-"], `${lines.join("\n")}\n`);
    expect(stdout).toContain("100,000 lines");
    const pulled = await run(["pull", stream, "--lines"]);
    expect(pulled.stdout).toBe(`${lines.join("\n")}\n`);
    expect(pulled.stderr).toContain("it is not sealed");
  });

  it("appends each line as it arrives", async () => {
    const stream = newName();
    const cli = spawnCli(["push", stream, "-", "--url", server.url]);
    for (const line of ["first", "second"]) {
      cli.write(`${line}\n`);
      await until(20_000, `${line} is stored`, async () => (await stored(stream)).at(-1)?.["text"] === line);
    }
    cli.end();
    expect(await cli.done).toMatchObject({ code: 0, stdout: `appended 2 lines to ${stream}: seq 0 to 1\n` });
  });

  it.each([
    { signal: "SIGINT", exit: exitCodes.interrupted },
    { signal: "SIGTERM", exit: exitCodes.terminated },
    { signal: "SIGHUP", exit: exitCodes.hungUp },
  ] as const)("after $signal has stored what was read", async ({ signal, exit }) => {
    const stream = newName();
    const cli = spawnCli(["push", stream, "-", "--url", server.url]);
    cli.write("one\ntwo\n");
    await until(20_000, "the lines are stored", async () => (await stored(stream)).length === 2);
    cli.kill(signal);
    const { code, stdout } = await cli.done;
    expect(stdout).toContain("appended 2 lines");
    expect(code).toBe(exit.code);
  });

  it("seals at the end only if asked to, and refuses a sealed stream before it reads a line", async () => {
    const stream = newName();
    expect((await run(["push", stream, "-", "--seal"], "one\n")).stdout).toContain(", sealed");
    const cli = spawnCli(["push", stream, "-", "--url", server.url]);
    const { code, stderr } = await cli.done;
    expect(stderr).toContain("is sealed");
    expect(code).toBe(exitCodes.conflict.code);
  });

  it("stores what came before a line that is too long", async () => {
    const stream = newName();
    const { code, stderr } = await run(
      ["push", stream, "-", "--max-line", "fail"],
      `ok\n${"x".repeat(1024 * 1024 + 1)}\nmore\n`,
    );
    expect(stderr).toContain("line 2 is longer than 1048576 bytes");
    expect(stderr).toContain("the 1 line before it is stored");
    expect(code).toBe(exitCodes.usage.code);
    expect((await stored(stream)).map(({ text }) => text)).toEqual(["ok"]);
  });

  it.each([
    { mode: "split", parts: ["x".repeat(1024 * 1024), "y"], says: "1 line longer than 1048576 bytes was split" },
    { mode: "truncate", parts: ["x".repeat(1024 * 1024)], says: "1 line longer than 1048576 bytes was cut off" },
  ])("goes on after a line that is too long with $mode", async ({ mode, parts, says }) => {
    const stream = newName();
    const input = `ok\n${"x".repeat(1024 * 1024)}y\nmore\n`;
    const { code, stderr } = await run(["push", stream, "-", "--max-line", mode], input);
    expect(code, stderr).toBe(0);
    expect(stderr).toContain(says);
    expect((await stored(stream)).map(({ text }) => text)).toEqual(["ok", ...parts, "more"]);
  });

  it("takes a line of exactly the limit", async () => {
    const { code, stderr } = await run(["push", newName(), "-"], `${"x".repeat(1024 * 1024)}\n`);
    expect(code, stderr).toBe(0);
  });

  it("works over HTTP/1.1, where nothing is full duplex", async () => {
    const stream = newName();
    const { stdout } = await run(["push", stream, "-", "--http-version", "1.1"], "one\ntwo\n");
    expect(stdout).toContain("appended 2 lines");
  });

  it("ends well without a line", async () => {
    const stream = newName();
    expect(await run(["push", stream, "-"])).toMatchObject({
      code: 0,
      stdout: `no lines, nothing appended to ${stream}\n`,
    });
  });
});
