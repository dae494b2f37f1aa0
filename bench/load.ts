import { join } from "node:path";
import type { Case, Shape } from "./cases.ts";
import { buildDir } from "./contenders.ts";
import { runLoadProgram } from "./load-program.ts";
import type { Measurement } from "./load-program.ts";
import type { ServerProcess } from "./server-process.ts";

/** The load client's program. */
export type LoadClient = "go" | "node";

export interface LoadOptions {
  readonly client: LoadClient;
  readonly warmup: number;
  readonly seconds: number;
  /** Longest wait, after the measurement, for what is in flight. */
  readonly drain: number;
  readonly batches: Batches;
  /** Go's threads. */
  readonly procs: number;
}

/**
 * Messages of each stream where there are more than a hundred; fewer streams
 * have no end. Few enough that the slowest server is through in some seconds,
 * and many enough that it is not the calls that are measured.
 */
export interface Batches {
  readonly stream: number;
  /** Of a shape that waits for each answer. */
  readonly turns: number;
}

/** Some servers, by default, allow no more than 250 streams on a connection. */
const streamsPerConnection = 100;

const programs = {
  go: [join(buildDir, "load")],
  node: [process.execPath, join(import.meta.dirname, "node-client/main.ts")],
} as const satisfies Record<LoadClient, readonly [string, ...string[]]>;

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
    batch: streams <= streamsPerConnection ? 0 : batchOf(shape, options.batches),
    warmup: `${options.warmup}s`,
    duration: `${options.seconds}s`,
    drain: `${options.drain}s`,
    ...(token === undefined ? {} : { token }),
  };
  const timeout = options.warmup + options.seconds + options.drain + 90;
  return runLoadProgram(programs[options.client], args, { procs: options.procs, timeout });
}

function batchOf(shape: Shape, { stream, turns }: Batches): number {
  return shape === "unary" || shape === "pingpong" ? turns : stream;
}
