import { spawn } from "node:child_process";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { exitCodes } from "../../src/cli/exit-codes.ts";
import { runCli, tempDir, useServer } from "../support/cli.ts";
import { within } from "../support/deadline.ts";

const server = useServer();
const bin = join(import.meta.dirname, "../../bin/sluice.js");

it.each(["push", "chat"])("%s refuses a directory as standard input, and makes no stream", async (command) => {
  const dir = await open(await tempDir(), "r");
  const child = spawn(process.execPath, [bin, command, "stdin/dir", "--url", server.url], {
    stdio: [dir.fd, "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk));
  const code = await within(20_000, "its end", new Promise((resolve) => child.once("close", resolve)));
  await dir.close();
  expect(stderr).toContain("standard input is a directory");
  expect(code).toBe(exitCodes.usage.code);
  expect((await runCli(["streams", "show", "stdin/dir", "--url", server.url])).code).toBe(exitCodes.notFound.code);
});
