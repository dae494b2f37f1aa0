import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

export interface ServerProcess {
  readonly pid: number;
  /** host:port */
  readonly target: string;
  stop(): Promise<void>;
}

const startMs = 20_000;
const stopMs = 3_000;

/** Starts a server, whose first line ends with `listening on HOST:PORT`. */
export async function startServer([program, ...args]: readonly [string, ...string[]]): Promise<ServerProcess> {
  // The end of a run cuts calls, which some servers log at length.
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
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
  const killOnExit = (): void => {
    child.kill("SIGKILL");
  };
  process.once("exit", killOnExit);
  const lines = createInterface({ input: child.stdout });
  const timer = setTimeout(killOnExit, startMs);
  const line = await Promise.race([
    new Promise<string>((resolve) => lines.once("line", resolve)),
    exited.then(() => undefined),
  ]);
  clearTimeout(timer);
  const target = line === undefined ? undefined : /listening on (?:http:\/\/)?(\S+:\d+)$/.exec(line)?.[1];
  if (target === undefined || child.pid === undefined) {
    killOnExit();
    throw new Error(`${program} ${args.join(" ")} did not start: ${line ?? ""}\n${log}`);
  }
  return {
    pid: child.pid,
    target,
    async stop() {
      child.kill("SIGTERM");
      const late = setTimeout(killOnExit, stopMs);
      await exited;
      clearTimeout(late);
      process.off("exit", killOnExit);
    },
  };
}
