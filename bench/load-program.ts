import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** What a load client prints. Times are seconds, sizes bytes. */
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

export interface LoadProgramOptions {
  /** Go's threads. */
  readonly procs: number;
  /** After so many seconds it is ended, and has failed. */
  readonly timeout: number;
}

const run = promisify(execFile);

/** Runs a load client to its end. Each of `flags` becomes `--name=value`. */
export async function runLoadProgram(
  [program, ...args]: readonly [string, ...string[]],
  flags: Readonly<Record<string, string | number | boolean>>,
  { procs, timeout }: LoadProgramOptions,
): Promise<Measurement> {
  const given = Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
  const { stdout } = await run(program, [...args, ...given], {
    env: { ...process.env, GOMAXPROCS: String(procs) },
    timeout: timeout * 1000,
  });
  return JSON.parse(stdout) as Measurement;
}
