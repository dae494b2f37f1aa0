import { describe, expect, it } from "vitest";
import { exitCodes } from "../../src/cli/exit-codes.ts";
import { jsonLines, runCli, spawnCli, startServer, useServer } from "../support/cli.ts";
import type { CliResult } from "../support/cli.ts";
import { useProxy } from "../support/cutting-proxy.ts";
import { until } from "../support/deadline.ts";

const server = useServer();
const run = (args: string[], stdin = ""): Promise<CliResult> => runCli([...args, "--url", server.url], { stdin });

let names = 0;
const newName = (): string => `streams/${++names}`;

describe("greet", () => {
  it.each([
    { shape: "unary", lines: ["Hello, Ada!", "Hello, Grace!"] },
    { shape: "all", lines: ["Hello, Ada and Grace!"] },
    { shape: "repeatedly", lines: ["Hello, Ada!", "Hello, Ada!", "Hello, Grace!", "Hello, Grace!"] },
    { shape: "each", lines: ["Hello, Ada!", "Hello, Grace!"] },
  ])("calls the $shape shape, over every protocol", async ({ shape, lines }) => {
    for (const protocol of ["connect", "grpc", "grpc-web"]) {
      const args = ["greet", "Ada", "Grace", "--shape", shape, "--times", "2", "--protocol", protocol];
      expect(await run(args)).toMatchObject({ code: 0, stderr: "", stdout: `${lines.join("\n")}\n` });
      const json = await run([...args, "--json"]);
      expect(jsonLines(json.stdout)).toEqual(lines.map((greeting) => ({ greeting })));
    }
  });

  it("prints each greeting as it arrives", async () => {
    const args = ["greet", "Ada", "--shape", "repeatedly", "--times", "2", "--interval", "1h", "--url", server.url];
    const cli = spawnCli(args, { stdin: "" });
    await cli.printed(/^Hello, Ada!\n$/);
    cli.kill("SIGINT");
    expect(await cli.done).toMatchObject({ code: exitCodes.interrupted.code, stdout: "Hello, Ada!\n" });
  });

  it("shows the rule that a name breaks", async () => {
    const { code, stderr } = await run(["greet", "x".repeat(101)]);
    expect(stderr).toContain("name");
    expect(code).toBe(exitCodes.usage.code);
  });
});

describe("streams", () => {
  it("keeps metadata, and changes limits one by one", async () => {
    const stream = newName();
    const metadata = ["--metadata", "content-type=image/png", "--metadata", "by=a=b"];
    expect(await run(["streams", "create", stream, "--max-age", "7d", ...metadata])).toMatchObject({ code: 0 });
    expect(await run(["streams", "set", stream, "--max-records", "5"])).toMatchObject({
      code: 0,
      stdout: `${stream} now keeps records of the last 7d, up to 5 records\n`,
    });
    expect((await run(["streams", "set", stream, "--max-age", "none"])).stdout).toContain("now keeps up to 5 records");
    expect(jsonLines((await run(["streams", "show", stream, "--json"])).stdout)).toMatchObject([
      {
        retention: { maxAgeMs: null, maxRecords: 5 },
        metadata: { "content-type": "image/png", by: "a=b" },
      },
    ]);
    expect((await run(["streams", "show", stream])).stdout).toMatch(/^metadata content-type: +image\/png$/m);
    expect(await run(["streams", "set", stream])).toMatchObject({ code: exitCodes.usage.code });
    const wrong = await run(["streams", "create", newName(), "--metadata", "nothing"]);
    expect(wrong).toMatchObject({ code: exitCodes.usage.code });
    expect(wrong.stderr).toContain("--metadata must be key=value");
  });

  it("creates, shows, lists, trims, seals and deletes", async () => {
    const stream = newName();
    const limits = ["--max-age", "7d", "--max-bytes", "1GiB", "--max-records", "5000"];
    expect(await run(["streams", "create", stream, ...limits])).toMatchObject({
      code: 0,
      stdout: `created ${stream}\n`,
    });
    await run(["push", stream, "-"], "one\ntwo\nthree\n");
    const shown = jsonLines((await run(["streams", "show", stream, "--json"])).stdout);
    expect(shown).toMatchObject([
      {
        name: stream,
        head: 0,
        tail: 3,
        sealed: false,
        sha256: null,
        retention: { maxAgeMs: 604_800_000, maxBytes: 2 ** 30, maxRecords: 5000 },
      },
    ]);
    expect((await run(["streams", "show", stream])).stdout).toMatch(
      /^keeps: +records of the last 7d, up to 1GiB, up to 5,000 records$/m,
    );
    expect((await run(["streams", "list", "--prefix", stream])).stdout).toMatch(
      new RegExp(`^STREAM.*\\n${stream} .* open\\n$`),
    );
    expect((await run(["streams", "trim", stream, "2"])).code).toBe(0);
    expect((await run(["streams", "seal", stream])).stdout).toBe(`sealed ${stream} at seq 3\n`);
    expect((await run(["streams", "delete", stream])).stdout).toBe(`deleted ${stream}\n`);
    expect((await run(["streams", "show", stream])).code).toBe(exitCodes.notFound.code);
  });

  it("lists every page as JSON", async () => {
    const created = Array.from({ length: 120 }, (_, i) => `many/${String(i).padStart(3, "0")}`);
    const all = created.join("\n");
    // One process a stream would take long: the server's own API is quicker.
    for (const name of created) {
      const response = await fetch(`${server.url}/data.v1.DataService/CreateStream`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "Acme-Token": "sample" },
        body: JSON.stringify({ name }),
      });
      await response.body?.cancel();
    }
    const { stdout } = await run(["streams", "list", "--prefix", "many/", "--json"]);
    expect(
      jsonLines(stdout)
        .map(({ name }) => name)
        .join("\n"),
    ).toBe(all);
  });

  it.each([
    { args: ["create", "there"], code: exitCodes.conflict, says: "exists already" },
    { args: ["trim", "there", "100"], code: exitCodes.conflict, says: "beyond the tail" },
    { args: ["seal", "there", "--expected-seq", "9"], code: exitCodes.conflict, says: "expected the tail to be 9" },
    { args: ["seal", "there", "--sha256", "0".repeat(64)], code: exitCodes.mismatch, says: "has SHA-256" },
    { args: ["delete", "not-there"], code: exitCodes.notFound, says: 'there is no stream "not-there"' },
    { args: ["create", "UPPER"], code: exitCodes.usage, says: "name" },
  ])("$args fails with a reason", async ({ args, code, says }) => {
    await run(["streams", "create", "there"]);
    const result = await run(["streams", ...args]);
    expect(result.stderr).toContain(says);
    expect(result.code).toBe(code.code);
  });
});

describe("tail", () => {
  it("begins with the last ten, goes on as records arrive, and ends at the seal", async () => {
    const stream = newName();
    const lines = Array.from({ length: 12 }, (_, i) => `line ${i}`);
    await run(["push", stream, "-"], lines.join("\n"));
    const cli = spawnCli(["tail", stream, "--url", server.url], { stdin: "" });
    await cli.printed(/^line 2\n(.*\n)*line 11\n$/);
    await run(["push", stream, "-"], "later\n");
    await cli.printed(/^later\n$/m);
    await run(["streams", "seal", stream]);
    expect(await cli.done).toMatchObject({ code: 0, stderr: "" });
  });

  it.each([
    { from: "head", seqs: [0, 1, 2] },
    { from: "1", seqs: [1, 2] },
    { from: "-1", seqs: [2] },
    { from: "tail", seqs: [] },
    { from: "2020-01-01", seqs: [0, 1, 2] },
    { from: "1h", seqs: [0, 1, 2] },
  ])("begins where --from $from says", async ({ from, seqs }) => {
    const stream = newName();
    await run(["push", stream, "-"], "a\nb\nc\n");
    const { code, stdout } = await run(["tail", stream, "--from", from, "--no-follow", "--json"]);
    expect(code).toBe(0);
    expect(jsonLines(stdout).map(({ seq }) => seq)).toEqual(seqs);
  });

  it("goes on by itself after the server has been restarted", async () => {
    const { mkdtemp, rm } = await import("node:fs/promises");
    const { onTestFinished } = await import("vitest");
    const dir = await mkdtemp("/tmp/sluice-cli-");
    onTestFinished(() => rm(dir, { recursive: true, force: true }));
    const first = await startServer(["--store", "lmdb", "--data-dir", dir]);
    const proxy = await useProxy(first.url);
    const url = ["--url", proxy.url];
    await runCli(["push", "x", "-", ...url], { stdin: "one\n" });
    const cli = spawnCli(["tail", "x", ...url], { stdin: "" });
    await cli.printed(/^one\n$/);
    first.cli.kill("SIGKILL");
    await first.cli.done;
    await until(20_000, "a note of the broken connection", () => cli.stderr.includes("the connection broke"));
    proxy.retarget((await startServer(["--store", "lmdb", "--data-dir", dir])).url);
    await runCli(["push", "x", "-", ...url], { stdin: "two\n" });
    await cli.printed(/^one\ntwo\n$/);
    cli.kill("SIGINT");
    expect((await cli.done).code).toBe(exitCodes.interrupted.code);
  });

  it("may be cut short by a closed pipe", async () => {
    const stream = newName();
    await run(["push", stream, "-"], "a\n");
    const cli = spawnCli(["tail", stream, "--url", server.url], { stdin: "" });
    await cli.printed(/^a\n$/);
    cli.closeStdout();
    await run(["push", stream, "-"], "b\n");
    expect(await cli.done).toMatchObject({ code: 0, stderr: "" });
  });
});

describe("health", () => {
  it("says that the server serves", async () => {
    expect(await run(["health"])).toMatchObject({ code: 0, stdout: "SERVING\n" });
    expect(jsonLines((await run(["health", "data.v1.DataService", "--json"])).stdout)).toEqual([
      { service: "data.v1.DataService", status: "SERVING" },
    ]);
  });

  it("needs no token, and knows which services there are", async () => {
    expect((await run(["health", "--token", ""])).code).toBe(0);
    const { code, stderr } = await run(["health", "none.v1.None"]);
    expect(stderr).toContain("none.v1.None");
    expect(code).toBe(exitCodes.notFound.code);
  });

  it("watches until the server goes", async () => {
    const mine = await startServer();
    const cli = spawnCli(["health", "--watch", "--url", mine.url], { stdin: "" });
    await cli.printed(/^SERVING\n$/);
    mine.cli.kill("SIGTERM");
    await cli.printed(/^SERVING\nNOT_SERVING\n$/);
    expect((await cli.done).code).toBe(exitCodes.unavailable.code);
  });
});
