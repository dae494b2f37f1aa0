import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { onTestFinished } from "vitest";
import { until, within } from "./deadline.ts";
import { tlsFiles } from "./http3.ts";

const main = join(import.meta.dirname, "../../bin/sluice.js");

/** A `sluice serve` in a process of its own. */
export interface ServerProcess {
  readonly url: string;
  readonly pid: number;
  /** The exit code, or the signal's name. */
  readonly exited: Promise<number | string>;
  kill(signal: NodeJS.Signals): void;
  /** What it has logged so far, on standard error. */
  readonly log: string;
  /** Resolves once it has logged something that matches, `times` times. */
  logged(pattern: RegExp, times?: number): Promise<void>;
  /** The value of a metric without labels; needs `--admin-port 0`. */
  metric(name: string): Promise<number>;
  /**
   * What the process still refers to, in bytes: JavaScript's heap and the buffers outside it, after a full
   * collection. Garbage that nobody has collected yet is not held. Needs `inspect`.
   */
  heldMemory(): Promise<number>;
  /** JavaScript's heap in bytes, with the garbage in it that nobody has collected yet. Needs `inspect`. */
  usedHeap(): Promise<number>;
  /** What keeps the process's event loop alive, by kind, as Node names them. Needs `inspect`. */
  resources(): Promise<string[]>;
}

/** The arguments of a server with `tlsFiles`, which are on the disk until the end of the test. */
export async function useTlsArgs(): Promise<string[]> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-tls-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const [cert, key] = [join(dir, "cert.pem"), join(dir, "key.pem")];
  await Promise.all([writeFile(cert, tlsFiles.cert), writeFile(key, tlsFiles.key)]);
  return ["--tls-cert", cert, "--tls-key", key];
}

/** Starts `sluice serve` on a free port; killed, and its temporary data removed, at the end of the test. */
export async function startServerProcess(
  args: string[] = [],
  options: { dataDir?: string; inspect?: boolean; nodeOptions?: readonly string[]; stderr?: string } = {},
): Promise<ServerProcess> {
  let dataDir = options.dataDir;
  if (dataDir === undefined) {
    dataDir = await mkdtemp(join(tmpdir(), "sluice-data-"));
    const made = dataDir;
    onTestFinished(() => rm(made, { recursive: true, force: true }));
  }
  const command = [...(options.nodeOptions ?? []), main, "serve", "--port", "0", "--data-dir", dataDir, ...args];
  const stderr = options.stderr === undefined ? undefined : await open(options.stderr, "a");
  const child = spawn(process.execPath, command, {
    stdio: ["ignore", "pipe", stderr?.fd ?? "pipe"],
    env: options.inspect === true ? { ...process.env, NODE_OPTIONS: "--inspect=127.0.0.1:0" } : process.env,
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
  await stderr?.close();
  child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
    log += chunk;
    adminUrl ??= /"admin(?:Url)?":"([^"]+)"/.exec(log)?.[1];
  });
  const lines = createInterface({ input: child.stdout as Readable });
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

  /** Standard error may be read later than the first line on standard output. */
  const admin = async (): Promise<string> => {
    await until(20_000, "the admin's URL in the log", () => adminUrl !== undefined);
    return adminUrl ?? "";
  };

  const inspector = async (): Promise<string> => {
    const line = /Debugger listening on (ws:\S+)/;
    await until(20_000, "the inspector's URL in the log", () => line.test(log));
    return line.exec(log)?.[1] ?? "";
  };

  return {
    url,
    pid,
    exited,
    kill: (signal) => child.kill(signal),
    get log() {
      return log;
    },
    async logged(pattern, times = 1) {
      const all = new RegExp(pattern, "g");
      await until(20_000, `${String(pattern)} in the log`, () => [...log.matchAll(all)].length >= times);
    },
    async metric(name) {
      const url = await admin();
      // On a connection of its own: one that is kept may be closed just when it is used again.
      const text = await (await fetch(url, { headers: { connection: "close" } })).text();
      return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
    },
    async heldMemory() {
      // Twice, because what has a finalizer goes only in the second.
      const collect = ["HeapProfiler.collectGarbage", "HeapProfiler.collectGarbage"];
      const expression = "(({ heapUsed, external }) => heapUsed + external)(process.memoryUsage())";
      return (await within(20_000, "the process's memory", inspect(await inspector(), expression, collect))) as number;
    },
    async usedHeap() {
      const asked = inspect(await inspector(), "process.memoryUsage().heapUsed");
      return (await within(20_000, "the process's heap", asked)) as number;
    },
    async resources() {
      const asked = inspect(await inspector(), "process.getActiveResourcesInfo()");
      return (await within(20_000, "the process's resources", asked)) as string[];
    },
  };
}

/** What the expression is in the process, over the Chrome DevTools Protocol, after the methods. */
async function inspect(url: string, expression: string, methods: readonly string[] = []): Promise<unknown> {
  const socket = new WebSocket(url);
  await once(socket, "open");
  try {
    let id = 0;
    const ask = async (method: string, params: object): Promise<unknown> => {
      id++;
      const reply = once(socket, "message");
      socket.send(JSON.stringify({ id, method, params }));
      const [event] = (await reply) as [MessageEvent<string>];
      return (JSON.parse(event.data) as { result: unknown }).result;
    };
    for (const method of methods) await ask(method, {});
    const answer = await ask("Runtime.evaluate", { expression, returnByValue: true });
    return (answer as { result: { value: unknown } }).result.value;
  } finally {
    socket.close();
  }
}
