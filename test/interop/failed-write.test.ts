import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { until, within } from "../support/deadline.ts";
import { startServerProcess } from "../support/server-process.ts";
import type { ServerProcess } from "../support/server-process.ts";

// A disk that fails, as strace has it: a write of the server's fails with EIO, which reached no disk.

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

async function call(server: ServerProcess, method: string, request: object): Promise<Answer> {
  const response = await fetch(`${server.url}/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", "acme-token": "sample", connection: "close" },
    body: JSON.stringify(request),
    signal: AbortSignal.timeout(20_000),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

function append(server: ServerProcess, text: string): Promise<Answer> {
  const data = Buffer.from(text).toString("base64");
  return call(server, "data.v1.DataService/Append", { stream: "s", createIfMissing: true, records: [{ data }] });
}

/** Lets one write of each thread fail, the one of this number from now on. Resolves with what strace has seen. */
async function failWrite(server: ServerProcess, dir: string, number: number): Promise<() => Promise<string>> {
  const trace = join(dir, `trace-${number}`);
  const strace = spawn(
    "strace",
    [
      "-f",
      "-p",
      String(server.pid),
      "-e",
      "trace=pwrite64",
      "-o",
      trace,
      "-e",
      `inject=pwrite64:error=EIO:when=${number}`,
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  onTestFinished(() => void strace.kill("SIGKILL"));
  let said = "";
  strace.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  await until(20_000, "strace", () => {
    if (strace.exitCode !== null) throw new Error(`strace ended: ${said}`);
    return /attached/.test(said);
  });
  return async () => {
    if (strace.exitCode === null) {
      const ended = once(strace, "exit");
      strace.kill("SIGINT");
      await within(20_000, "the end of strace", ended);
    }
    return readFile(trace, "utf8");
  };
}

/** LMDB's meta page is written last, by itself, with 128 bytes; all else in whole pages of 4,096. */
const metaFailed = /, 128, \d+\) += -1 EIO .*INJECTED/;
const dataFailed = /, 4096, \d+\) += -1 EIO .*INJECTED/;

it("a failed write of a data page refuses the append; of a meta page it ends the server, which says so", async () => {
  const seen = new Set<string>();
  // How many pages a commit writes depends on how LMDB has filled them.
  for (let number = 1; number <= 12 && seen.size < 2; number++) {
    const dir = await mkdtemp(join(tmpdir(), "sluice-failed-"));
    onTestFinished(() => rm(dir, { recursive: true, force: true }));
    const dataDir = join(dir, "data");
    const server = await startServerProcess([], { dataDir });
    const acked: string[] = [];
    for (const text of ["a", "b"]) {
      expect((await append(server, text)).status).toBe(200);
      acked.push(text);
    }
    const traced = await failWrite(server, dir, number);
    const answer = await append(server, "c");
    if (answer.status === 200) acked.push("c");
    else expect(answer).toMatchObject({ status: 503, body: { code: "unavailable" } });
    const ended = await Promise.race([server.exited, new Promise((resolve) => setTimeout(resolve, 2000, "alive"))]);
    const trace = await traced();
    if (metaFailed.test(trace)) {
      seen.add("meta page");
      expect(answer.status).toBe(503);
      expect(await within(20_000, "the end of the server", server.exited)).toBe(1);
      expect(server.log).toContain("the store cannot be used any more");
    } else {
      if (dataFailed.test(trace)) seen.add("data page");
      expect(ended).toBe("alive");
      expect((await call(server, "grpc.health.v1.Health/Check", {})).body["status"]).toBe("SERVING");
      expect((await append(server, "d")).status).toBe(200);
      acked.push("d");
      server.kill("SIGTERM");
      await within(20_000, "the end of the server", server.exited);
    }
    // What was acked is there, and nothing is there twice.
    const next = await startServerProcess([], { dataDir });
    const { body } = await call(next, "data.v1.DataService/GetStream", { name: "s" });
    expect(body["stream"]).toMatchObject({ tail: String(acked.length) });
    next.kill("SIGTERM");
    await within(20_000, "the end of the next server", next.exited);
  }
  expect([...seen].sort()).toEqual(["data page", "meta page"]);
});
