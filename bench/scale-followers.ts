import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { makeDataDir } from "./data-contenders.ts";
import type { FollowersReport } from "./node-client/followers.ts";
import { startScaleServer } from "./scale-server.ts";
import type { Memory, ScaleServer } from "./scale-server.ts";

export interface FollowersOptions {
  readonly followers: number;
  readonly seconds: number;
  readonly appendsPerSecond: number;
  readonly nodeOptions: readonly string[];
  readonly onProgress: (line: string) => void;
}

export interface FollowersSample extends Memory {
  readonly seconds: number;
  readonly appended: number;
  /** Of the last second. */
  readonly deliveries: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface FollowersResult {
  readonly followers: number;
  readonly appendsPerSecond: number;
  /** Before anybody follows. */
  readonly before: Memory;
  /** All follow, and nothing has been appended. */
  readonly caughtUp: Memory;
  readonly samples: readonly FollowersSample[];
  /** Of the records of the whole run, to all followers. */
  readonly expected: number;
  readonly delivered: number;
  /** Growth of the memory for each follower, in bytes: caught up, and the median of the last half of the run. */
  readonly perFollowerCaughtUp: number;
  readonly perFollowerSteady: number;
}

const stream = "followed";
const perConnection = 100;
const sampleMs = 5000;
const openMs = 120_000;

/** Many readers at the tail of one stream, while records are appended to it. */
export async function measureFollowers(options: FollowersOptions): Promise<FollowersResult> {
  const { dir, remove } = await makeDataDir();
  try {
    const server = await startScaleServer(dir, ["--max-calls", "100000"], options.nodeOptions);
    try {
      return await follow(server, options);
    } finally {
      await server.stop();
    }
  } finally {
    await remove();
  }
}

async function follow(server: ScaleServer, options: FollowersOptions): Promise<FollowersResult> {
  const { followers, seconds, appendsPerSecond, onProgress } = options;
  await server.call("data.v1.DataService/CreateStream", { name: stream });
  const before = await server.memory();
  onProgress(`${followers} followers begin`);
  const client = spawn(
    process.execPath,
    [
      join(import.meta.dirname, "node-client/followers.ts"),
      server.target,
      stream,
      ...[followers, perConnection].map(String),
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const kill = (): void => {
    client.kill("SIGKILL");
  };
  process.once("exit", kill);
  let last: FollowersReport | undefined;
  createInterface({ input: client.stdout }).on("line", (line) => {
    last = JSON.parse(line) as FollowersReport;
  });
  try {
    for (const end = Date.now() + openMs; last?.open !== followers;) {
      await sleep(100);
      if (Date.now() > end || client.exitCode !== null) throw new Error(`${last?.open ?? 0} of ${followers} follow`);
    }
    await sleep(3000);
    const caughtUp = await server.memory();
    const appends: Promise<unknown>[] = [];
    const samples: FollowersSample[] = [];
    const begun = Date.now();
    for (let next = sampleMs, elapsed = 0; elapsed <= seconds * 1000;) {
      await sleep(10);
      elapsed = Date.now() - begun;
      while (appends.length < (elapsed / 1000) * appendsPerSecond) appends.push(append(server));
      if (elapsed < next) continue;
      next += sampleMs;
      const { recent: deliveries, p50: p50Ms, p99: p99Ms } = last;
      const memory = await server.memory();
      samples.push({ seconds: elapsed / 1000, appended: appends.length, ...memory, deliveries, p50Ms, p99Ms });
      onProgress(
        `${(elapsed / 1000).toFixed(0)} s: ${(memory.rss / 2 ** 20).toFixed(0)} MiB, heap ${(memory.heap / 2 ** 20).toFixed(0)} MiB, ${deliveries} deliveries/s, p50 ${p50Ms} ms, p99 ${p99Ms} ms`,
      );
    }
    await Promise.all(appends);
    const expected = appends.length * followers;
    for (const end = Date.now() + openMs; last.delivered < expected && Date.now() < end;) await sleep(500);
    if (last.open !== followers) throw new Error(`${followers - last.open} followers were ended`);
    const steady = samples.slice(samples.length >> 1).map(({ rss }) => rss);
    steady.sort((a, b) => a - b);
    return {
      followers,
      appendsPerSecond,
      before,
      caughtUp,
      samples,
      expected,
      delivered: last.delivered,
      perFollowerCaughtUp: (caughtUp.rss - before.rss) / followers,
      perFollowerSteady: ((steady[steady.length >> 1] ?? NaN) - before.rss) / followers,
    };
  } finally {
    kill();
    process.off("exit", kill);
  }
}

function append(server: ScaleServer): Promise<unknown> {
  const data = Buffer.from(`t=${Date.now()}`).toString("base64");
  return server.call("data.v1.DataService/Append", { stream, records: [{ data }] });
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
