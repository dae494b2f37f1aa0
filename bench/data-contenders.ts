import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { buildDir, namedIn } from "./contenders.ts";
import type { DataCase } from "./data-cases.ts";
import { startProgram, startServer } from "./server-process.ts";
import type { ServerProcess } from "./server-process.ts";

/** A store of records. */
export interface DataContender {
  readonly name: string;
  readonly title: string;
  /** Starts it on an empty directory. */
  readonly start: (dir: string, nodeOptions: readonly string[]) => Promise<ServerProcess>;
  /** What the load client needs to know besides the case. */
  readonly loadArgs: (server: ServerProcess, dir: string) => Readonly<Record<string, string | number>>;
  readonly takesPart: (what: DataCase) => boolean;
}

const sluiceMain = join(import.meta.dirname, "../bin/sluice.js");

const dataContenders: readonly DataContender[] = [
  {
    name: "sluice",
    title: "Sluice",
    start: (dir, nodeOptions) =>
      startServer([process.execPath, ...nodeOptions, sluiceMain, "serve", "--port", "0", "--data-dir", dir]),
    loadArgs: ({ target, pid }) => ({ backend: "sluice", target, pid, token: "sample" }),
    takesPart: () => true,
  },
  {
    name: "nats",
    title: "NATS JetStream",
    start: startNats,
    loadArgs: ({ target, pid }) => ({ backend: "nats", target, pid }),
    takesPart: () => true,
  },
  {
    name: "fdatasync",
    title: "fdatasync alone",
    // The load client is all there is: no server, no network.
    start: async () => ({ pid: process.pid, target: "", stop: async () => undefined }),
    loadArgs: (_, dir) => ({ backend: "fdatasync", dir }),
    takesPart: ({ shape }) => shape !== "replay",
  },
];

export function selectDataContenders(names: readonly string[], hasNats: boolean): readonly DataContender[] {
  return namedIn(dataContenders, names).filter(({ name }) => name !== "nats" || hasNats);
}

/** A directory on the disk of the checkout, as the system's temporary one may be in memory. */
export async function makeDataDir(): Promise<{ dir: string; remove: () => Promise<void> }> {
  await mkdir(buildDir, { recursive: true });
  const dir = await mkdtemp(join(buildDir, "data-"));
  return { dir, remove: () => rm(dir, { recursive: true, force: true }) };
}

/** The version of nats-server, or undefined where it is absent. */
export async function natsVersion(): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)("nats-server", ["--version"], { timeout: 10_000 });
    return stdout.trim().replace(/^nats-server: /, "");
  } catch {
    return undefined;
  }
}

async function startNats(dir: string): Promise<ServerProcess> {
  const config = join(dir, "nats.conf");
  const text = `listen: 127.0.0.1:-1\nports_file_dir: "${dir}"\njetstream { store_dir: "${dir}" }\n`;
  await writeFile(config, text);
  return startProgram(["nats-server", "--config", config], () => natsTarget(dir));
}

/** nats-server writes a file that says where it listens. */
async function natsTarget(dir: string): Promise<string> {
  for (;;) {
    const file = (await readdir(dir)).find((name) => name.endsWith(".ports"));
    const text = file === undefined ? "" : await readFile(join(dir, file), "utf8");
    const target = /"nats:\/\/([^"]+)"/.exec(text)?.[1];
    if (target !== undefined) return target;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
