import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { onTestFinished } from "vitest";
import { within } from "./deadline.ts";

const main = join(import.meta.dirname, "../../bin/sluice.js");

/** A `sluice serve` in a process of its own. */
export interface ServerProcess {
  readonly url: string;
  readonly pid: number;
  /** The exit code, or the signal's name. */
  readonly exited: Promise<number | string>;
  kill(signal: NodeJS.Signals): void;
  /** The value of a metric without labels; needs `--admin-port 0`. */
  metric(name: string): Promise<number>;
  /** Memory of its own in bytes, once it has stopped moving by more than 1 %. */
  settledMemory(): Promise<number>;
}

/** Starts `sluice serve` on a free port; killed, and its temporary data removed, at the end of the test. */
export async function startServerProcess(
  args: string[] = [],
  options: { dataDir?: string } = {},
): Promise<ServerProcess> {
  let dataDir = options.dataDir;
  if (dataDir === undefined) {
    dataDir = await mkdtemp(join(tmpdir(), "sluice-data-"));
    const made = dataDir;
    onTestFinished(() => rm(made, { recursive: true, force: true }));
  }
  const child = spawn(process.execPath, [main, "serve", "--port", "0", "--data-dir", dataDir, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = new Promise<number | string>((resolve) => {
    child.once("exit", (code, signal) => {
      resolve(code ?? signal ?? "unknown");
    });
  });
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await exited;
  });
  let log = "";
  let adminUrl: string | undefined;
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    log += chunk;
    adminUrl ??= /"admin(?:Url)?":"([^"]+)"/.exec(log)?.[1];
  });
  const lines = createInterface({ input: child.stdout });
  const firstLine = new Promise<string>((resolve, reject) => {
    lines.once("line", resolve);
    void exited.then((code) => {
      reject(new Error(`the server ended with ${code}: ${log}`));
    });
  });
  const line = await within(20_000, "the server's first line", firstLine);
  const url = /^sluice listening on (\S+)$/.exec(line)?.[1];
  if (url === undefined || child.pid === undefined) throw new Error(`unexpected first line: ${line}`);
  const pid = child.pid;

  async function memory(): Promise<number> {
    // Resident pages less shared ones: what the store maps from its file is not the process's own
    // (https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html).
    const [, resident, shared] = (await readFile(`/proc/${pid}/statm`, "utf8")).split(" ").map(Number);
    return ((resident ?? 0) - (shared ?? 0)) * 4096;
  }
  return {
    url,
    pid,
    exited,
    kill: (signal) => child.kill(signal),
    async metric(name) {
      if (adminUrl === undefined) throw new Error(`no admin URL in the log: ${log}`);
      const text = await (await fetch(adminUrl)).text();
      return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
    },
    async settledMemory() {
      const end = Date.now() + 10_000;
      let last = await memory();
      for (;;) {
        await new Promise((resolve) => setTimeout(resolve, 300));
        const now = await memory();
        if (Math.abs(now - last) < last / 100 || Date.now() > end) return now;
        last = now;
      }
    },
  };
}
