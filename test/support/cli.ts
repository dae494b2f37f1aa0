import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, onTestFinished } from "vitest";
import { until, within } from "./deadline.ts";

const bin = join(import.meta.dirname, "../../bin/sluice.js");

export interface CliOptions {
  /** Written to standard input, which then ends. Without it there is no input. */
  readonly stdin?: string | Uint8Array;
  /** Added to an environment without any SLUICE_ variable. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** After so long the process is killed and the test fails; 60 s. */
  readonly timeoutMs?: number;
}

export interface CliResult {
  /** The exit code, or the name of the signal that ended it. */
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

/** A `sluice` that runs. */
export interface CliProcess {
  readonly pid: number;
  /** What it has printed so far. */
  readonly stdout: string;
  readonly stderr: string;
  readonly ended: boolean;
  write(text: string): void;
  /** What has been written and is not in the pipe yet, because the process does not read, in bytes. */
  readonly unreadBytes: number;
  /** Ends its standard input. */
  end(): void;
  /** Closes its standard output, as `| head` does. */
  closeStdout(): void;
  kill(signal: NodeJS.Signals): void;
  /** Resolves once standard output matches. */
  printed(pattern: RegExp): Promise<RegExpExecArray>;
  readonly done: Promise<CliResult>;
}

/** Starts `sluice` in a process of its own, which is killed at the end of the test. */
export function spawnCli(args: readonly string[], options: CliOptions = {}): CliProcess {
  const cli = launch(args, options);
  onTestFinished(async () => {
    cli.kill("SIGKILL");
    await cli.done;
  });
  return cli;
}

function launch(args: readonly string[], options: CliOptions): CliProcess {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("SLUICE_")));
  const child = spawn(process.execPath, [bin, ...args], {
    env: { ...env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    stdio: "pipe",
  });
  let stdout = "";
  let stderr = "";
  /** It has ended, and everything that it printed has been read. */
  let closed = false;
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (stdout += chunk));
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk));
  // The process may end before it has read everything.
  child.stdin.on("error", () => undefined);
  if (options.stdin !== undefined) child.stdin.end(options.stdin);
  const done = new Promise<CliResult>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      closed = true;
      resolve({ code: code ?? signal ?? "unknown", stdout, stderr });
    });
  });
  return {
    pid: child.pid ?? 0,
    get stdout() {
      return stdout;
    },
    get stderr() {
      return stderr;
    },
    get ended() {
      return child.exitCode !== null || child.signalCode !== null;
    },
    write: (line) => child.stdin.write(line),
    get unreadBytes() {
      return child.stdin.writableLength;
    },
    end: () => child.stdin.end(),
    closeStdout: () => child.stdout.destroy(),
    kill: (signal) => child.kill(signal),
    async printed(pattern) {
      await until(30_000, `${args.join(" ")}: ${String(pattern)} on standard output`, () => {
        return pattern.test(stdout) || closed;
      });
      const match = pattern.exec(stdout);
      if (match === null) throw new Error(`${args.join(" ")} ended without ${String(pattern)}: ${stdout}${stderr}`);
      return match;
    },
    done,
  };
}

/** A `sluice serve` on a free port, as a process of its own. */
export interface CliServer {
  readonly url: string;
  readonly cli: CliProcess;
}

/** Starts a server in memory (unless told otherwise), and waits for its first line. */
export async function startServer(args: readonly string[] = [], options: CliOptions = {}): Promise<CliServer> {
  return listening(spawnCli(["serve", "--port", "0", "--store", "memory", ...args], options));
}

/** One server for all the tests of a file. */
export function useServer(args: readonly string[] = []): { readonly url: string } {
  let server: CliServer | undefined;
  beforeAll(async () => {
    server = await listening(launch(["serve", "--port", "0", "--store", "memory", ...args], {}));
  });
  afterAll(async () => {
    server?.cli.kill("SIGKILL");
    await server?.cli.done;
  });
  return {
    get url() {
      if (server === undefined) throw new Error("the server has not been started yet");
      return server.url;
    },
  };
}

async function listening(cli: CliProcess): Promise<CliServer> {
  const [, url = ""] = await cli.printed(/^sluice listening on (\S+)\n/);
  return { url, cli };
}

/** Runs `sluice` to its end. */
export async function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const cli = spawnCli(args, { stdin: "", ...options });
  return within(options.timeoutMs ?? 60_000, `the end of sluice ${args.join(" ")}`, cli.done);
}

/** The JSON lines that a command printed. */
export function jsonLines(output: string): Record<string, unknown>[] {
  return output
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** A directory that is removed at the end of the test. */
export async function tempDir(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-cli-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** Bytes that look random and are the same each time. */
export function someBytes(length: number, seed = 1): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4));
  let x = seed;
  for (let i = 0; i < words.length; i++) {
    // xorshift32 (Marsaglia, 2003)
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x;
  }
  return new Uint8Array(words.buffer, 0, length);
}
