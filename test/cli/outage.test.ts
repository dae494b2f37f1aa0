import { cp, mkdtemp, readFile, readdir, rename, rm, stat, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { exitCodes } from "../../src/cli/exit-codes.ts";
import { jsonLines, runCli, spawnCli, tempDir } from "../support/cli.ts";
import type { CliProcess } from "../support/cli.ts";
import { until, within } from "../support/deadline.ts";
import { startServerProcess } from "../support/server-process.ts";
import type { ServerProcess } from "../support/server-process.ts";
import { storedTexts, useSluiceClient } from "../support/sluice-client.ts";

/** A server that goes away and comes back on the same port, with the same data. */
interface ComingServer {
  readonly url: string;
  stop(): Promise<void>;
  start(): Promise<void>;
  texts(stream: string): Promise<string[]>;
}

async function useComingServer(args: string[] = []): Promise<ComingServer> {
  const dataDir = await mkdtemp(join(tmpdir(), "sluice-outage-"));
  let server: ServerProcess = await startServerProcess(args, { dataDir });
  onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
  const { url } = server;
  return {
    url,
    async stop() {
      server.kill("SIGKILL");
      await server.exited;
    },
    async start() {
      server = await startServerProcess([...args, "--port", new URL(url).port], { dataDir });
    },
    texts: (stream) => storedTexts(useSluiceClient(url), stream),
  };
}

const numbered = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, i) => `line ${from + i}`);

function write(cli: CliProcess, lines: readonly string[]): void {
  cli.write(lines.map((line) => `${line}\n`).join(""));
}

async function untilStored(server: ComingServer, stream: string, count: number): Promise<void> {
  await until(20_000, `${count} lines are stored`, async () => {
    const texts = await server.texts(stream).catch(() => []);
    return texts.length >= count;
  });
}

/** The process's memory, in bytes. */
async function memoryOf(pid: number): Promise<number> {
  const [, kib = NaN] = /^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kib) * 1024;
}

const saysItTries = (cli: CliProcess): Promise<void> =>
  until(20_000, "a note of the outage", () => cli.stderr.includes("trying again"));

describe("push of lines in an outage", () => {
  it("reads on, and stores each line once and in order when the server is back", async () => {
    const server = await useComingServer();
    const cli = spawnCli(["push", "s", "-", "--url", server.url]);
    write(cli, numbered(0, 10));
    await untilStored(server, "s", 10);
    await server.stop();
    write(cli, numbered(10, 5000));
    await saysItTries(cli);
    write(cli, numbered(5000, 6000));
    await server.start();
    write(cli, numbered(6000, 6010));
    cli.end();
    const { code, stdout, stderr } = await within(30_000, "the end of the push", cli.done);
    expect(code, stderr).toBe(0);
    expect(stdout).toContain("appended 6,010 lines to s: seq 0 to 6009");
    expect(stderr).toMatch(/connected again after \d+ s/);
    expect(await server.texts("s")).toEqual(numbered(0, 6010));
  });

  it("lets the input wait once the buffer is full", async () => {
    const server = await useComingServer();
    const cli = spawnCli(["push", "s", "-", "--url", server.url, "--buffer", "256KiB"]);
    write(cli, ["first"]);
    await untilStored(server, "s", 1);
    await server.stop();
    write(cli, ["second"]);
    await saysItTries(cli);
    const lines = Array.from({ length: 400 }, (_, i) => `${i} ${"x".repeat(64 * 1024)}`);
    write(cli, lines);
    // The rest stands in this process, and in the pipe.
    await until(20_000, "the input waits", () => cli.unreadBytes > 8 * 1024 * 1024);
    expect((await memoryOf(cli.pid)) / 1024 / 1024).toBeLessThan(250);
    await server.start();
    cli.end();
    expect((await within(60_000, "the end of the push", cli.done)).code).toBe(0);
    expect(await server.texts("s")).toEqual(["first", "second", ...lines]);
  });

  it("ends at once with Ctrl-C, and says how many lines are stored", async () => {
    const server = await useComingServer();
    const cli = spawnCli(["push", "s", "-", "--url", server.url]);
    write(cli, numbered(0, 3));
    await untilStored(server, "s", 3);
    await server.stop();
    write(cli, numbered(3, 5));
    await saysItTries(cli);
    cli.kill("SIGINT");
    const { code, stderr } = await within(20_000, "the end of the push", cli.done);
    expect(stderr).toContain("interrupted: 3 lines are stored; 2 lines that followed may be lost");
    expect(code).toBe(exitCodes.interrupted.code);
  });

  it("ends with Ctrl-C before one that gets SIGTERM, which gives the server some seconds to come back", async () => {
    const server = await useComingServer();
    const both = [0, 1].map(() => spawnCli(["push", "s", "-", "--url", server.url]));
    for (const cli of both) write(cli, ["one"]);
    await untilStored(server, "s", 2);
    await server.stop();
    for (const cli of both) write(cli, ["two"]);
    await Promise.all(both.map(saysItTries));
    const [terminated, interrupted] = both as [CliProcess, CliProcess];
    terminated.kill("SIGTERM");
    interrupted.kill("SIGINT");
    const first = await within(20_000, "the end of one", Promise.race(both.map((cli) => cli.done)));
    expect(first.code).toBe(exitCodes.interrupted.code);
    expect((await within(20_000, "the end of the other", terminated.done)).code).toBe(exitCodes.terminated.code);
  });

  it("gives up after --retry-for, and says how many lines are stored", async () => {
    const server = await useComingServer();
    const cli = spawnCli(["push", "s", "-", "--url", server.url, "--retry-for", "500ms", "--json"]);
    write(cli, ["one"]);
    await untilStored(server, "s", 1);
    await server.stop();
    write(cli, ["two"]);
    const { code, stderr } = await within(20_000, "the end of the push", cli.done);
    expect(code).toBe(exitCodes.unavailable.code);
    expect(jsonLines(stderr)).toContainEqual({ note: "1 line is stored; 1 line that followed may be lost" });
  });

  it("waits for a server from the start if it is told for how long", async () => {
    const server = await useComingServer();
    await server.stop();
    const cli = spawnCli(["push", "s", "-", "--url", server.url, "--retry-for", "1m"], { stdin: "one\n" });
    await saysItTries(cli);
    await server.start();
    expect((await within(20_000, "the end of the push", cli.done)).code).toBe(0);
    expect(await server.texts("s")).toEqual(["one"]);
  });

  it("ends when its stream has been deleted", async () => {
    const server = await useComingServer();
    const cli = spawnCli(["push", "s", "-", "--url", server.url]);
    write(cli, ["one"]);
    await untilStored(server, "s", 1);
    await useSluiceClient(server.url).data.deleteStream("s");
    write(cli, ["two"]);
    const { code, stderr } = await within(20_000, "the end of the push", cli.done);
    expect(stderr).toContain("1 line is stored");
    expect(code).not.toBe(0);
  });
});

describe("push with a spool", () => {
  async function useSpool(): Promise<string> {
    return join(await tempDir(), "spool");
  }
  const push = (server: ComingServer, spool: string, ...args: string[]): CliProcess =>
    spawnCli(["push", "s", "-", "--url", server.url, "--spool", spool, ...args]);

  it.each(["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"] as const)(
    "loses nothing and stores nothing twice when it ends by %s in an outage",
    async (signal) => {
      const [server, spool] = [await useComingServer(), await useSpool()];
      const first = push(server, spool);
      write(first, numbered(0, 10));
      await untilStored(server, "s", 10);
      await server.stop();
      write(first, numbered(10, 2000));
      await saysItTries(first);
      await until(20_000, "the lines are in the spool", async () => (await readFile(spool)).includes("line 1999"));
      expect((await stat(spool)).mode & 0o777).toBe(0o600);
      first.kill(signal);
      const { stderr } = await within(30_000, "the end of the push", first.done);
      if (signal !== "SIGKILL") {
        // The server may have been stopped between its commit and the answer.
        expect(stderr).toMatch(/(10 lines are stored; 1,990|0 lines are stored; 2,000) lines that followed wait in /);
        expect(stderr).toContain(spool);
      }
      // Restarted in the same outage.
      const second = push(server, spool);
      write(second, numbered(2000, 3000));
      await saysItTries(second);
      await server.start();
      second.end();
      const { code, stdout, stderr: notes } = await within(30_000, "the end of the push", second.done);
      expect(code, notes).toBe(0);
      expect(notes).toMatch(/sending (1,990|2,000) lines of an earlier push/);
      expect(stdout).toMatch(/appended (2,990|3,000) lines/);
      expect(await server.texts("s")).toEqual(numbered(0, 3000));
      expect(await readdir(dirname(spool))).toEqual(["spool"]);
    },
  );

  it("stores nothing twice when the process is killed before it has noted the answers", async () => {
    const [server, spool] = [await useComingServer(), await useSpool()];
    const first = push(server, spool);
    write(first, numbered(0, 500));
    await untilStored(server, "s", 500);
    first.kill("SIGKILL");
    await first.done;
    // As if the process had been killed between the answer and its note: the batches are there, the notes are not.
    const bytes = await readFile(spool);
    await truncate(spool, bytes.lastIndexOf("line 499") + "line 499".length);
    const second = push(server, spool);
    second.end();
    const { code, stderr } = await within(30_000, "the end of the push", second.done);
    expect(code, stderr).toBe(0);
    expect(stderr).toContain("sending 500 lines of an earlier push");
    expect(await server.texts("s")).toEqual(numbered(0, 500));
  });

  it("sends the rest again, and says so, when the server has forgotten it", async () => {
    const [server, spool] = [await useComingServer(), await useSpool()];
    const first = push(server, spool);
    write(first, ["one"]);
    await untilStored(server, "s", 1);
    await server.stop();
    write(first, ["two"]);
    await saysItTries(first);
    await until(20_000, "the line is in the spool", async () => (await readFile(spool)).includes("two"));
    first.kill("SIGKILL");
    await first.done;
    await server.start();
    await useSluiceClient(server.url).data.deleteStream("s");
    const second = push(server, spool);
    write(second, ["three"]);
    second.end();
    const { code, stderr } = await within(30_000, "the end of the push", second.done);
    expect(code, stderr).toBe(0);
    const texts = await server.texts("s");
    // The server may have been stopped between its commit of "one" and the answer: then all is sent, from number 0 on.
    if (texts[0] === "one") texts.shift();
    else expect(stderr).toContain("does not know this push any more");
    expect(texts).toEqual(["two", "three"]);
  });

  it("goes on after a torn or damaged end, and keeps what it cannot read", async () => {
    const [server, spool] = [await useComingServer(), await useSpool()];
    const first = push(server, spool);
    write(first, ["one"]);
    await untilStored(server, "s", 1);
    await server.stop();
    write(first, ["two"]);
    await saysItTries(first);
    await until(20_000, "the line is in the spool", async () => (await readFile(spool)).includes("two"));
    write(first, ["three"]);
    await until(20_000, "the line is in the spool", async () => (await readFile(spool)).includes("three"));
    first.kill("SIGKILL");
    await first.done;
    await truncate(spool, (await stat(spool)).size - 2);
    await server.start();
    const second = push(server, spool);
    write(second, ["four"]);
    second.end();
    const { code, stderr } = await within(30_000, "the end of the push", second.done);
    expect(code, stderr).toBe(0);
    expect(stderr).toContain(`they are in ${spool}.damaged-`);
    expect(await server.texts("s")).toEqual(["one", "two", "four"]);
    const kept = (await readdir(dirname(spool))).filter((name) => name.startsWith(`${basename(spool)}.damaged-`));
    expect(kept).toHaveLength(1);
    expect((await readFile(join(dirname(spool), kept[0] ?? ""))).includes("thr")).toBe(true);
  });

  it("keeps all that was read when a signal comes while the input waits for room", async () => {
    const [server, spool] = [await useComingServer(), await useSpool()];
    const cli = push(server, spool, "--spool-size", "1KiB");
    write(cli, ["first"]);
    await untilStored(server, "s", 1);
    await server.stop();
    write(cli, ["second"]);
    await saysItTries(cli);
    const lines = Array.from({ length: 500 }, (_, i) => `${i} ${"x".repeat(100)}`);
    write(cli, lines);
    await until(20_000, "all is read", () => cli.unreadBytes === 0);
    cli.kill("SIGTERM");
    await within(30_000, "the end of the push", cli.done);
    await server.start();
    const next = push(server, spool);
    next.end();
    const { code, stderr } = await within(30_000, "the end of the next push", next.done);
    expect(code, stderr).toBe(0);
    expect(await server.texts("s")).toEqual(["first", "second", ...lines]);
  });

  it("that is an older copy loses no line, and says that some may be stored twice", async () => {
    const [server, spool] = [await useComingServer(), await useSpool()];
    const run = async (...lines: string[]): Promise<string> => {
      const cli = push(server, spool);
      write(cli, lines);
      cli.end();
      const { code, stderr } = await within(30_000, "the end of the push", cli.done);
      expect(code, stderr).toBe(0);
      return stderr;
    };
    await run("a", "b");
    await cp(spool, `${spool}.copy`);
    await run("c");
    await rename(`${spool}.copy`, spool);
    expect(await run("new")).toContain("does not know this push any more");
    expect(await run("newer")).toBe("");
    expect(await server.texts("s")).toEqual(["a", "b", "c", "new", "newer"]);
  });

  it("is one, whichever of its links names it", async () => {
    const [server, spool] = [await useComingServer(), await useSpool()];
    const link = join(await tempDir(), "link");
    await symlink(spool, link);
    const first = push(server, link);
    write(first, ["one"]);
    await untilStored(server, "s", 1);
    for (const path of [link, spool]) {
      const second = await runCli(["push", "s", "-", "--url", server.url, "--spool", path]);
      expect(second.stderr).toContain(`another push uses the spool file ${path}`);
    }
    first.end();
    expect((await within(30_000, "the end of the push", first.done)).code).toBe(0);
  });

  it("is used by one process at a time, and for one stream", async () => {
    const [server, spool] = [await useComingServer(), await useSpool()];
    const first = push(server, spool);
    write(first, ["one"]);
    await untilStored(server, "s", 1);
    const second = await runCli(["push", "s", "-", "--url", server.url, "--spool", spool]);
    expect(second.stderr).toContain(`another push uses the spool file ${spool}`);
    expect(second.code).toBe(exitCodes.conflict.code);
    await server.stop();
    write(first, ["two"]);
    await saysItTries(first);
    first.kill("SIGINT");
    await first.done;
    const other = await runCli(["push", "other", "-", "--url", server.url, "--spool", spool]);
    expect(other.stderr).toContain('holds lines for stream "s"');
    expect(other.code).toBe(exitCodes.conflict.code);
  });

  it("refuses a file that is no spool, and leaves it as it is", async () => {
    const [server, spool] = [await useComingServer(), await useSpool()];
    await writeFile(spool, "a file of mine");
    const { code, stderr } = await runCli(["push", "s", "-", "--url", server.url, "--spool", spool]);
    expect(stderr).toContain("is no spool file");
    expect(code).toBe(exitCodes.conflict.code);
    expect(await readFile(spool, "utf8")).toBe("a file of mine");
  });

  it("lets the input wait once the file is full, and begins it anew once all is stored", async () => {
    const [server, spool] = [await useComingServer(), await useSpool()];
    const cli = push(server, spool, "--spool-size", "2MiB");
    write(cli, ["first"]);
    await untilStored(server, "s", 1);
    await server.stop();
    write(cli, ["second"]);
    await saysItTries(cli);
    const lines = Array.from({ length: 200 }, (_, i) => `${i} ${"x".repeat(64 * 1024)}`);
    write(cli, lines);
    await until(20_000, "the input waits", () => cli.unreadBytes > 6 * 1024 * 1024);
    expect((await stat(spool)).size).toBeLessThan(4 * 1024 * 1024);
    await server.start();
    cli.end();
    const { code, stderr } = await within(60_000, "the end of the push", cli.done);
    expect(code, stderr).toBe(0);
    expect(await server.texts("s")).toEqual(["first", "second", ...lines]);
    expect((await stat(spool)).size).toBeLessThan(4 * 1024 * 1024);
  });
});

describe("tail in an outage", () => {
  it("goes on where it was, and says that it is connected again", async () => {
    const server = await useComingServer();
    const { data } = useSluiceClient(server.url);
    await data.append("s", [{ data: "one" }], { createIfMissing: true });
    const cli = spawnCli(["tail", "s", "--url", server.url]);
    await cli.printed(/^one\n$/);
    await server.stop();
    await saysItTries(cli);
    await server.start();
    await until(20_000, "the note", () => /connected again after \d+ s/.test(cli.stderr));
    await useSluiceClient(server.url).data.append("s", [{ data: "two" }]);
    await cli.printed(/^one\ntwo\n$/);
  });

  it("ends at once with Ctrl-C, and gives up after --retry-for", async () => {
    const server = await useComingServer();
    await useSluiceClient(server.url).data.append("s", [{ data: "one" }], { createIfMissing: true });
    const waiting = spawnCli(["tail", "s", "--url", server.url]);
    const bounded = spawnCli(["tail", "s", "--url", server.url, "--retry-for", "500ms"]);
    await Promise.all([waiting, bounded].map((cli) => cli.printed(/one/)));
    await server.stop();
    await saysItTries(waiting);
    waiting.kill("SIGINT");
    expect((await within(20_000, "the end of the tail", waiting.done)).code).toBe(exitCodes.interrupted.code);
    expect((await within(20_000, "the end of the tail", bounded.done)).code).toBe(exitCodes.unavailable.code);
  });
});
