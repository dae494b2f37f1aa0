import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Case } from "./cases.ts";
import { buildDir } from "./contenders.ts";
import type { ServerProcess } from "./server-process.ts";

/** What the load client prints. Times are seconds, sizes bytes. */
export interface Measurement {
  readonly messages: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly serverCpuSeconds: number;
  readonly clientCpuSeconds: number;
  readonly peakMemoryBytes: number;
  readonly p50Seconds?: number;
  readonly p99Seconds?: number;
  /** Whether everything that was sent was seen to arrive before the end. */
  readonly drained: boolean;
}

export interface LoadOptions {
  readonly warmup: number;
  readonly seconds: number;
  /** Longest wait, after the measurement, for what is in flight. */
  readonly drain: number;
  /** Go's threads. */
  readonly procs: number;
}

/** Some servers, by default, allow no more than 250 streams on a connection. */
const streamsPerConnection = 100;

const run = promisify(execFile);

/** Puts a server under load, and measures it. */
export async function runLoad(
  server: ServerProcess,
  token: string | undefined,
  { shape, size, streams }: Case,
  options: LoadOptions,
): Promise<Measurement> {
  const args = {
    target: server.target,
    pid: server.pid,
    shape,
    size,
    streams,
    connections: Math.ceil(streams / streamsPerConnection),
    warmup: `${options.warmup}s`,
    duration: `${options.seconds}s`,
    drain: `${options.drain}s`,
    ...(token === undefined ? {} : { token }),
  };
  const { stdout } = await run(
    join(buildDir, "load"),
    Object.entries(args).map(([name, value]) => `--${name}=${value}`),
    {
      env: { ...process.env, GOMAXPROCS: String(options.procs) },
      timeout: (options.warmup + options.seconds + options.drain + 30) * 1000,
    },
  );
  return JSON.parse(stdout) as Measurement;
}
