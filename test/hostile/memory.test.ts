import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it, onTestFinished } from "vitest";
import { createSluiceClient } from "../../src/client/index.ts";
import type { SluiceClient } from "../../src/client/index.ts";
import { until, within } from "../support/deadline.ts";
import { tlsFiles } from "../support/http3.ts";
import { startServerProcess } from "../support/server-process.ts";
import type { ServerProcess } from "../support/server-process.ts";
import { attacks } from "./support/attacks.ts";
import type { Target } from "./support/attacks.ts";

// The default is short, for `npm test`; CI gives a minute.
const seconds = Number(process.env["SLUICE_TEST_HOSTILE_SECONDS"] ?? 10);

const MiB = 1024 * 1024;

/**
 * What the process may take at most: 512 MiB of JavaScript's heap, half of that outside of it, which is the budget, its
 * nursery (48 MiB), and what Node, lmdb and the allocator take for themselves.
 */
const mostBytes = 1200 * MiB;

const nodeOptions = ["--max-old-space-size=512"];

/** Memory that the process has allocated and touched, in bytes, without that of files: lmdb maps its own. */
async function anonymousMemory(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
}

function startAttackers(target: Target, names: readonly string[]): () => Promise<void> {
  const program = join(import.meta.dirname, "support/attacker.ts");
  const child = spawn(process.execPath, [program, JSON.stringify(target), ...names], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const end = (): Promise<void> => {
    child.kill("SIGKILL");
    return exited;
  };
  onTestFinished(end);
  return end;
}

/** What clients who want nothing but an answer meet meanwhile. */
async function beHealthy(clients: readonly SluiceClient[], until: () => boolean): Promise<number[]> {
  const latencies: number[] = [];
  while (!until()) {
    for (const client of clients) {
      const begin = performance.now();
      const { greeting } = await within(60_000, "a healthy call", client.greet.greet({ name: "Ada" }));
      latencies.push(performance.now() - begin);
      expect(greeting).toBe("Hello, Ada!");
    }
    await sleep(10);
  }
  return latencies.sort((a, b) => a - b);
}

/** A stream of 8 MiB to read. */
async function fillStream(client: SluiceClient): Promise<void> {
  const records = Array.from({ length: 16 }, () => ({ data: new Uint8Array(64 * 1024) }));
  for (let i = 0; i < 8; i++) await client.data.append("large", records, { createIfMissing: true });
}

async function withstand(server: ServerProcess, target: Target, clients: readonly SluiceClient[]): Promise<void> {
  const [first] = clients;
  if (first === undefined) throw new Error("there is no healthy client");
  await fillStream(first);
  // One process, so that on a small machine the server has a core.
  const end = startAttackers(target, Object.keys(attacks));
  let most = 0;
  const deadline = Date.now() + seconds * 1000;
  const watch = (async () => {
    while (Date.now() < deadline) {
      // A process that has gone shows in the calls.
      most = Math.max(most, await anonymousMemory(server.pid).catch(() => 0));
      await sleep(100);
    }
  })();
  const latencies = await beHealthy(clients, () => Date.now() >= deadline);
  await watch;
  const refusals = await server.metric("sluice_request_memory_refusals_total");
  const calls = [...server.log.matchAll(/"msg":"call"/g)].length;
  await end();
  const p99 = latencies[Math.floor(latencies.length * 0.99)] ?? NaN;
  process.stdout.write(
    `${latencies.length} healthy calls, p50 ${latencies[latencies.length >> 1]?.toFixed(0)} ms, p99 ${p99.toFixed(0)} ms, longest ${latencies.at(-1)?.toFixed(0)} ms; ` +
      `most memory ${Math.round(most / MiB)} MiB; ${calls} calls have ended, ${refusals} for want of memory\n`,
  );
  expect(latencies.length).toBeGreaterThan(0);
  expect(most).toBeLessThan(mostBytes);
  await until(90_000, "the end of all calls", async () => (await server.metric("sluice_calls_active")) === 0);
  await until(90_000, "the release of all memory", async () => {
    return (await server.metric("sluice_request_memory_bytes")) === 0;
  });
  // It is the process that was started: another would have other metrics, and this pid would be gone.
  expect(await beHealthy(clients, () => true)).toEqual([]);
  process.kill(server.pid, 0);
  expect(await server.metric("sluice_unexpected_errors_total")).toBe(0);
}

// Attackers and others come from one address, which is not to be refused for what the attackers reset.
const args = ["--admin-port", "0", "--max-store-bytes", "256MiB", "--max-reset-rate", "1000000"];
const testMs = seconds * 1000 + 180_000;

describe.skipIf(process.platform !== "linux")("a server with 512 MiB under hostile clients", () => {
  it("over cleartext lives, answers others, and holds nothing afterwards", { timeout: testMs }, async () => {
    const server = await startServerProcess(args, { nodeOptions });
    const clients = (["1.1", "2"] as const).map((httpVersion) =>
      createSluiceClient({ url: server.url, token: "sample", httpVersion }),
    );
    onTestFinished(async () => {
      for (const client of clients) await client.close();
    });
    await withstand(server, { url: server.url, ca: undefined, http3Url: undefined }, clients);
  });

  it("over TLS and HTTP/3 lives, answers others, and holds nothing afterwards", { timeout: testMs }, async () => {
    const dir = await mkdtemp(join(tmpdir(), "sluice-hostile-"));
    onTestFinished(() => rm(dir, { recursive: true, force: true }));
    const files = { cert: join(dir, "cert.pem"), key: join(dir, "key.pem") };
    await writeFile(files.cert, tlsFiles.cert);
    await writeFile(files.key, tlsFiles.key);
    const tls = ["--tls-cert", files.cert, "--tls-key", files.key, "--http3"];
    const server = await startServerProcess([...args, ...tls], { nodeOptions });
    const { ca } = tlsFiles;
    const clients = (["1.1", "2", "3"] as const).map((httpVersion) =>
      createSluiceClient({ url: server.url, token: "sample", httpVersion, ca }),
    );
    onTestFinished(async () => {
      for (const client of clients) await client.close();
    });
    await withstand(server, { url: server.url, ca, http3Url: server.url }, clients);
  });
});
