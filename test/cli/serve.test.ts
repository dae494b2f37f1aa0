import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { again } from "../../src/async/again.ts";
import { exitCodes } from "../../src/cli/exit-codes.ts";
import { jsonLines, runCli, spawnCli, startServer, tempDir } from "../support/cli.ts";
import { until } from "../support/deadline.ts";

describe("serve", () => {
  it.each([[[]], [["--json"]], [["--log-level", "silent"]]])(
    "says where it listens, first of all: %s",
    async (args) => {
      const { url, cli } = await startServer(args);
      expect(cli.stdout).toBe(`sluice listening on ${url}\n`);
      expect(new URL(url).port).not.toBe("0");
      expect((await runCli(["greet", "Ada", "--url", url])).stdout).toBe("Hello, Ada!\n");
    },
  );

  it.each(["SIGINT", "SIGTERM"] as const)("drains at %s, ends with 0, and frees the port", async (signal) => {
    // Somebody else may take the port just then, but not always.
    const taken = (error: unknown): boolean => / is in use: /.test(String(error));
    await again(5, taken, async () => {
      const { url, cli } = await startServer();
      cli.kill(signal);
      expect((await cli.done).code).toBe(0);
      const { port } = new URL(url);
      expect((await startServer(["--port", port])).url).toBe(url);
    });
  });

  it("lets a call finish at the first signal, and ends at once at a second", async () => {
    const { url, cli } = await startServer(["--drain-timeout", "1h"]);
    const greeting = ["greet", "Ada", "--shape", "repeatedly", "--times", "2", "--interval", "1h"];
    const caller = spawnCli([...greeting, "--url", url], { stdin: "" });
    await caller.printed(/Hello/);
    cli.kill("SIGTERM");
    await until(20_000, "the drain", () => cli.stderr.includes("draining"));
    expect(caller.stdout).toBe("Hello, Ada!\n");
    // A repeat within half a second would count as the same one.
    await until(20_000, "the end", () => {
      cli.kill("SIGTERM");
      return cli.ended;
    });
    expect((await cli.done).code).toBe(exitCodes.terminated.code);
    expect((await caller.done).code).toBe(exitCodes.unavailable.code);
  });

  it("reads the tokens again at SIGHUP", async () => {
    const file = join(await tempDir(), "tokens.json");
    const tokens = (token: string): string => {
      const sha256 = createHash("sha256").update(token).digest("hex");
      return JSON.stringify({ tokens: [{ name: "somebody", sha256, scopes: ["greet"] }] });
    };
    await writeFile(file, tokens("before"));
    const { url, cli } = await startServer(["--tokens-file", file]);
    const greet = async (token: string): Promise<number | string> =>
      (await runCli(["greet", "Ada", "--url", url, "--token", token])).code;
    expect(await greet("before")).toBe(0);
    await writeFile(file, tokens("after"));
    cli.kill("SIGHUP");
    await until(20_000, "the new token is valid", async () => (await greet("after")) === 0);
    expect(await greet("before")).toBe(exitCodes.denied.code);
  });

  it("says that the port is in use", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as AddressInfo;
    const { code, stdout, stderr } = await runCli(["serve", "--port", String(port), "--store", "memory", "--json"]);
    other.close();
    expect(stdout).toBe("");
    expect(jsonLines(stderr).at(-1)?.["error"]).toMatch(/in use/);
    expect(code).toBe(exitCodes.conflict.code);
    expect(stderr).not.toMatch(/^ {4}at /m);
  });

  it("says that the data directory is in use", async () => {
    const dir = await tempDir();
    await startServer(["--store", "lmdb", "--data-dir", dir]);
    const { code, stderr } = await runCli(["serve", "--port", "0", "--data-dir", dir]);
    expect(stderr).toContain(`the data directory ${dir} is in use`);
    expect(code).toBe(exitCodes.conflict.code);
  });

  it("keeps what was stored", async () => {
    const args = ["--store", "lmdb", "--data-dir", await tempDir()];
    const first = await startServer(args);
    await runCli(["push", "kept", "-", "--url", first.url], { stdin: "one\n" });
    first.cli.kill("SIGTERM");
    await first.cli.done;
    const second = await startServer(args);
    expect((await runCli(["pull", "kept", "--url", second.url])).stdout).toBe("one");
  });
});
