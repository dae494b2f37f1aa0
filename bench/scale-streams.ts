import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openLmdbStore } from "../src/store/lmdb.ts";
import { makeDataDir } from "./data-contenders.ts";
import { startScaleServer } from "./scale-server.ts";
import type { ScaleServer } from "./scale-server.ts";

export interface StreamsOptions {
  readonly streams: number;
  /** Pages of each size and token that are measured. */
  readonly pages: number;
  /** Seconds in which the server sweeps once a second. */
  readonly sweepSeconds: number;
  readonly nodeOptions: readonly string[];
  readonly onProgress: (line: string) => void;
}

export interface PageTimes {
  readonly token: string;
  readonly pageSize: number;
  /** Milliseconds, as all that follow. */
  readonly p50: number;
  readonly p99: number;
}

export interface StreamsResult {
  readonly streams: number;
  readonly withRetention: number;
  readonly startSeconds: number;
  /** After the start, before any call. */
  readonly idleRssBytes: number;
  readonly pages: readonly PageTimes[];
  /** Longest time that the event loop was held while nothing but sweeps went on. */
  readonly sweepStallMs: number;
  /** The same without sweeps: what the machine itself does. */
  readonly idleStallMs: number;
}

/** One stream in so many has a retention. */
const retentionEvery = 10;
const pageSizes = [1, 100, 1000];
const tokens = {
  none: ["data:read:absent/*", "greet"],
  one: ["data:read:stream/0000500"],
  all: ["data:read:*"],
} as const;

/** A directory with many streams: how it starts, lists, sweeps. */
export async function measureStreams(options: StreamsOptions): Promise<StreamsResult> {
  const { dir, remove } = await makeDataDir();
  try {
    options.onProgress(`making ${options.streams} streams`);
    await fill(dir, options.streams);
    const tokensFile = join(dir, "tokens.json");
    await writeFile(tokensFile, tokensJson());
    const flags = ["--tokens-file", tokensFile];
    options.onProgress("starting");
    const server = await startScaleServer(dir, [...flags, "--sweep-interval", "1h"], options.nodeOptions);
    const { startSeconds } = server;
    let idleRssBytes: number;
    let idleStallMs: number;
    const pages: PageTimes[] = [];
    try {
      idleRssBytes = (await server.memory()).rss;
      idleStallMs = await stallOf(server, options.sweepSeconds);
      for (const token of Object.keys(tokens)) {
        for (const pageSize of pageSizes) {
          options.onProgress(`pages of ${pageSize} for a token that sees ${token}`);
          pages.push(await timePages(server, token, pageSize, options.pages));
        }
      }
    } finally {
      await server.stop();
    }
    options.onProgress("sweeping");
    const sweeping = await startScaleServer(dir, [...flags, "--sweep-interval", "1s"], options.nodeOptions);
    try {
      const sweepStallMs = await stallOf(sweeping, options.sweepSeconds);
      const withRetention = Math.ceil(options.streams / retentionEvery);
      return { streams: options.streams, withRetention, startSeconds, idleRssBytes, pages, sweepStallMs, idleStallMs };
    } finally {
      await sweeping.stop();
    }
  } finally {
    await remove();
  }
}

async function fill(dir: string, streams: number): Promise<void> {
  const store = await openLmdbStore({ dir, maxBytes: 2 ** 40, producerTtlMs: 1e9 });
  const records = [{ data: Buffer.alloc(100, "x"), headers: {} }];
  const make = async (i: number): Promise<void> => {
    const stream = `stream/${String(i).padStart(7, "0")}`;
    await store.create(stream, i % retentionEvery === 0 ? { maxAgeMs: 86_400_000, maxBytes: 1e6 } : {});
    await (await store.openAppender({ stream })).append({ records });
  };
  const together = 1000;
  for (let i = 0; i < streams; i += together) {
    await Promise.all(Array.from({ length: Math.min(together, streams - i) }, (_, k) => make(i + k)));
  }
  await store.close();
}

function tokensJson(): string {
  return JSON.stringify({
    tokens: Object.entries(tokens).map(([name, scopes]) => ({
      name,
      sha256: createHash("sha256").update(name).digest("hex"),
      scopes,
    })),
  });
}

async function timePages(server: ScaleServer, token: string, pageSize: number, count: number): Promise<PageTimes> {
  const times: number[] = [];
  let pageToken = "";
  // The first ones are slower, until the code is compiled.
  const warmup = 30;
  for (let i = -warmup; i < count; i++) {
    const begun = performance.now();
    const page = await server.call("data.v1.DataService/ListStreams", { pageSize, pageToken }, token);
    if (i >= 0) times.push(performance.now() - begun);
    pageToken = typeof page["nextPageToken"] === "string" ? page["nextPageToken"] : "";
  }
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.floor(times.length * share)] ?? NaN;
  return { token, pageSize, p50: at(0.5), p99: at(0.99) };
}

async function stallOf(server: ScaleServer, seconds: number): Promise<number> {
  await server.longestStall();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  return server.longestStall();
}
