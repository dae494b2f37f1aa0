import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { runCli, spawnCli, useServer } from "../support/cli.ts";
import { within } from "../support/deadline.ts";

const server = useServer();
const bin = join(import.meta.dirname, "../../bin/sluice.js");
const run = promisify(execFile);

describe.runIf(process.platform !== "win32")("tail of an idle stream ends when its reader has gone", () => {
  it("at the other end of a shell's pipe", async () => {
    await runCli(["push", "watched/pipe", "-", "--url", server.url], { stdin: "one\n" });
    const pipeline = `"${process.execPath}" "${bin}" tail watched/pipe --url ${server.url} | head -1`;
    const { stdout, stderr } = await within(20_000, "the end of the pipeline", run("sh", ["-c", pipeline]));
    expect({ stdout, stderr }).toEqual({ stdout: "one\n", stderr: "" });
  });

  it("at the other end of a socket", async () => {
    await runCli(["push", "watched/socket", "-", "--url", server.url], { stdin: "one\n" });
    const cli = spawnCli(["tail", "watched/socket", "--url", server.url]);
    await cli.printed(/one/);
    cli.closeStdout();
    expect(await within(20_000, "the end of the tail", cli.done)).toMatchObject({ code: 0, stderr: "" });
  });
});
