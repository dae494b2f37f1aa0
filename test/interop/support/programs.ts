import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { promisify } from "node:util";
import { onTestFinished } from "vitest";
import { until, within } from "../../support/deadline.ts";

/** Fails if a lane cannot run, and says what it needs. */
export async function mustRun(program: string, args: readonly string[], install: string): Promise<string> {
  try {
    const { stdout, stderr } = await promisify(execFile)(program, args, { timeout: 60_000 });
    return stdout + stderr;
  } catch (cause) {
    throw new Error(`${program} does not run: ${install}`, { cause });
  }
}

/** A program of others' that runs. */
export interface Program {
  readonly stdout: string;
  readonly stderr: string;
  /** Its complete lines of standard output so far. */
  readonly lines: readonly string[];
  write(text: string): void;
  /** Ends its standard input. */
  end(): void;
  kill(): void;
  /** Resolves once a line of standard output or standard error matches, the n-th time. */
  printed(pattern: RegExp, times?: number): Promise<RegExpExecArray>;
  /** Its exit code, or the signal's name. */
  readonly done: Promise<number | string>;
}

export interface ProgramOptions {
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Called for each complete line of standard output. */
  readonly onLine?: (line: string) => void;
}

/** Runs a program until it ends; `stop` kills it. */
export function launch(command: string, args: readonly string[], options: ProgramOptions = {}): Program {
  const child = spawn(command, args, { stdio: "pipe", env: { ...process.env, ...options.env } });
  let stdout = "";
  let stderr = "";
  let ended = false;
  const lines: string[] = [];
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    stdout += chunk;
    const all = stdout.split("\n");
    for (const line of all.slice(lines.length, -1)) {
      lines.push(line);
      options.onLine?.(line);
    }
  });
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk));
  // It may end before it has read everything.
  child.stdin.on("error", () => undefined);
  const done = once(child, "close").then(([code, signal]: unknown[]) => {
    ended = true;
    return (code ?? signal ?? "unknown") as number | string;
  });
  // Whoever waits for it is told.
  done.catch(() => (ended = true));
  return {
    get stdout() {
      return stdout;
    },
    get stderr() {
      return stderr;
    },
    lines,
    write: (text) => child.stdin.write(text),
    end: () => child.stdin.end(),
    kill: () => child.kill("SIGKILL"),
    async printed(pattern, times = 1) {
      const global = new RegExp(pattern.source, "gm");
      const matches = (): RegExpExecArray[] => [...`${stdout}\n${stderr}`.matchAll(global)];
      await until(30_000, `${command}: ${String(pattern)}, ${times} times`, () => ended || matches().length >= times);
      const match = matches()[times - 1];
      if (match === undefined) throw new Error(`${command} ended without ${String(pattern)}: ${stdout}${stderr}`);
      return match;
    },
    done,
  };
}

/** The same, killed at the end of the test. */
export function useProgram(command: string, args: readonly string[], options: ProgramOptions = {}): Program {
  const program = launch(command, args, options);
  onTestFinished(async () => {
    program.kill();
    await program.done;
  });
  return program;
}

/** Runs a program to its end. */
export async function runProgram(
  command: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<{ code: number | string; stdout: string; stderr: string }> {
  const program = useProgram(command, args, options);
  program.end();
  const code = await within(50_000, `the end of ${command} ${args.join(" ")}`, program.done);
  return { code, stdout: program.stdout, stderr: program.stderr };
}
