import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { exitCodes } from "../../src/cli/exit-codes.ts";
import { jsonLines, runCli, spawnCli, startServer, tempDir, useServer } from "../support/cli.ts";
import type { CliProcess } from "../support/cli.ts";
import { useProxy } from "../support/cutting-proxy.ts";
import { until } from "../support/deadline.ts";

const server = useServer();
let names = 0;
const newRoom = (): string => `rooms/${++names}`;

function enter(room: string, name: string, url = server.url, ...args: string[]): CliProcess {
  return spawnCli(["chat", room, "--name", name, "--url", url, ...args]);
}

describe("chat", () => {
  it.each(["connect", "grpc", "grpc-web"])(
    "carries lines both ways over %s, and shows nobody their own",
    async (protocol) => {
      const room = newRoom();
      const ada = enter(room, "ada", server.url, "--protocol", protocol);
      const grace = enter(room, "grace", server.url, "--protocol", protocol);
      ada.write("hello\n");
      await grace.printed(/^ada: hello\n$/);
      grace.write("hi ada\n");
      await ada.printed(/^grace: hi ada\n$/);
      ada.write("bye\n");
      ada.end();
      expect(await ada.done).toMatchObject({ code: 0, stderr: "", stdout: "grace: hi ada\n" });
      await grace.printed(/^ada: hello\nada: bye\n$/);
      grace.end();
      expect(await grace.done).toMatchObject({ code: 0, stderr: "" });
    },
  );

  it("stores every line before it leaves", async () => {
    const room = newRoom();
    const lines = Array.from({ length: 500 }, (_, i) => `line ${i}`);
    const { code } = await runCli(["chat", room, "--url", server.url], { stdin: lines.join("\n") });
    expect(code).toBe(0);
    const { stdout } = await runCli(["pull", room, "--lines", "--url", server.url]);
    expect(stdout).toBe(`${lines.join("\n")}\n`);
  });

  it("shows the last lines to whoever comes later, as JSON if asked to", async () => {
    const room = newRoom();
    await runCli(["chat", room, "--name", "ada", "--url", server.url], { stdin: "one\ntwo\nthree\n" });
    const plain = await runCli(["chat", room, "--history", "2", "--url", server.url], { stdin: "" });
    expect(plain).toMatchObject({ code: 0, stdout: "ada: two\nada: three\n" });
    const json = await runCli(["chat", room, "--name", "bot", "--json", "--url", server.url], { stdin: "four\n" });
    expect(jsonLines(json.stdout)).toMatchObject([
      { seq: 0, text: "one", own: false, headers: { "chat-name": "ada" } },
      { seq: 1, text: "two", own: false },
      { seq: 2, text: "three", own: false },
      { seq: 3, text: "four", own: true, headers: { "chat-name": "bot" } },
    ]);
  });

  it("lets nobody's line move the cursor or pretend to be two", async () => {
    const room = newRoom();
    const body = { stream: room, records: [{ headers: { "chat-name": "eve\r" }, data: btoa("\u001b[2Jx\nada: y") }] };
    await fetch(`${server.url}/data.v1.DataService/Append`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Acme-Token": "sample" },
      body: JSON.stringify({ ...body, createIfMissing: true }),
    });
    const { stdout } = await runCli(["chat", room, "--url", server.url], { stdin: "" });
    expect(stdout).toBe("eve\ufffd: x\ufffdada: y\n");
  });

  it("goes on after the server has been restarted, and says each line once", async () => {
    const dir = await mkdtemp(join(tmpdir(), "sluice-cli-"));
    const args = ["--store", "lmdb", "--data-dir", dir];
    const first = await startServer(args);
    const proxy = await useProxy(first.url);
    const ada = enter("room", "ada", proxy.url);
    const grace = enter("room", "grace", proxy.url);
    ada.write("before\n");
    await grace.printed(/^ada: before\n$/);
    first.cli.kill("SIGKILL");
    await first.cli.done;
    await until(20_000, "both see it", () => [ada, grace].every(({ stderr }) => stderr.includes("connection broke")));
    ada.write("meanwhile\n");
    const second = await startServer(args);
    proxy.retarget(second.url);
    await grace.printed(/^ada: before\nada: meanwhile\n$/);
    ada.end();
    expect((await ada.done).code).toBe(0);
    const { stdout } = await runCli(["pull", "room", "--lines", "--url", second.url]);
    expect(stdout).toBe("before\nmeanwhile\n");
    await rm(dir, { recursive: true, force: true });
  });

  it("ends when the room is sealed", async () => {
    const room = newRoom();
    const ada = enter(room, "ada");
    ada.write("one\n");
    const grace = enter(room, "grace");
    await grace.printed(/^ada: one\n$/);
    await runCli(["streams", "seal", room, "--url", server.url]);
    for (const cli of [ada, grace]) {
      const { code, stderr } = await cli.done;
      expect(stderr).toContain("is sealed");
      expect(code).toBe(exitCodes.conflict.code);
    }
  });

  it.each([
    { args: ["--http-version", "1.1"], says: "needs HTTP/2" },
    { args: ["--name", "a\nb"], says: "--name must be a text" },
    { args: ["--history", "x"], says: "--history must be a whole number" },
  ])("refuses $args", async ({ args, says }) => {
    const { code, stderr } = await runCli(["chat", "x", "--url", server.url, ...args]);
    expect(stderr).toContain(says);
    expect(code).toBe(exitCodes.usage.code);
  });

  it("ends at Ctrl-C", async () => {
    const room = newRoom();
    const cli = enter(room, "ada");
    await runCli(["chat", room, "--name", "grace", "--url", server.url], { stdin: "hello\n" });
    await cli.printed(/^grace: hello\n$/);
    cli.kill("SIGINT");
    expect((await cli.done).code).toBe(exitCodes.interrupted.code);
  });
});

describe("demo", () => {
  it("calls every method over every protocol, and leaves nothing behind", async () => {
    const tmp = await tempDir();
    const { code, stdout, stderr } = await runCli(["demo", "--json"], { env: { TMPDIR: tmp }, timeoutMs: 300_000 });
    expect(stderr).toBe("");
    expect(code).toBe(0);
    const rows = jsonLines(stdout);
    // Three protocols on HTTP/2 with eight methods, two on HTTP/1.1 with the six that are not bidi; clear and with TLS.
    expect(rows).toHaveLength(2 * (3 * 8 + 2 * 6));
    for (const row of rows) expect(row).toMatchObject({ right: true });
    const seen = new Set(
      rows.map(({ protocol, httpVersion, tls, method }) => [protocol, httpVersion, tls, method].join()),
    );
    expect(seen.size).toBe(rows.length);
    const { readdir } = await import("node:fs/promises");
    expect(await readdir(tmp)).toEqual([]);
  }, 320_000);

  it("prints a table for people", async () => {
    const { code, stdout } = await runCli(["demo"], { timeoutMs: 300_000 });
    expect(code).toBe(0);
    expect(stdout).toMatch(/^OVER +METHOD +SHAPE +MESSAGES +DATA +MS +MESSAGES\/S +MB\/S +SEEN$/m);
    expect(stdout).toMatch(/^grpc, HTTP\/2, TLS +Exchange +bidi .* ok$/m);
    expect(stdout).toMatch(/\nall 72 as expected\n$/);
  }, 320_000);
});
