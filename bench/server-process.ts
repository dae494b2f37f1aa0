import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";

export interface ServerProcess {
  readonly pid: number;
  /** host:port */
  readonly target: string;
  stop(): Promise<void>;
}

const startMs = 20_000;
const stopMs = 3_000;

/** Starts a server, whose first line ends with `listening on HOST:PORT`. */
export async function startServer(command: readonly [string, ...string[]]): Promise<ServerProcess> {
  return startProgram(command, async (output) => {
    const line = await new Promise<string>((resolve) => createInterface({ input: output }).once("line", resolve));
    const target = /listening on (?:http:\/\/)?(\S+:\d+)$/.exec(line)?.[1];
    if (target === undefined) throw new Error(`unexpected first line: ${line}`);
    return target;
  });
}

/** Starts a program, of which `findTarget` finds out where it listens. */
export async function startProgram(
  [program, ...args]: readonly [string, ...string[]],
  findTarget: (output: Readable) => Promise<string>,
): Promise<ServerProcess> {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  // Read to its end, so that nobody waits, but not kept: the end of a run cuts calls, which some servers log at length.
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    log = (log + text).slice(-4000);
  });
  const exited = new Promise<void>((resolve) => {
    child.once("error", (error) => {
      log += error.message;
      resolve();
    });
    child.once("exit", () => {
      resolve();
    });
  });
  const kill = (): void => {
    child.kill("SIGKILL");
  };
  process.once("exit", kill);
  let timer: NodeJS.Timeout | undefined;
  const failed = new Promise<never>((_, reject) => {
    const fail = (): void => {
      reject(new Error(`${program} ${args.join(" ")} did not start: ${log}`));
    };
    timer = setTimeout(fail, startMs);
    void exited.then(fail);
  });
  failed.catch(() => undefined);
  let target: string;
  try {
    target = await Promise.race([findTarget(child.stdout), failed]);
  } catch (error) {
    kill();
    throw error;
  } finally {
    clearTimeout(timer);
  }
  return {
    pid: child.pid ?? 0,
    target,
    async stop() {
      child.kill("SIGTERM");
      const late = setTimeout(kill, stopMs);
      await exited;
      clearTimeout(late);
      process.off("exit", kill);
    },
  };
}
