import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem, type } from "node:os";
import { join } from "node:path";

/** Where a run took place. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly system: string;
  /** Of the minute before the run: what else the machine was doing. */
  readonly loadBefore: number;
}

const root = join(import.meta.dirname, "..");

export function describeMachine(): Machine {
  const cores = cpus();
  return {
    cpu: cores[0]?.model ?? "unknown",
    cores: cores.length,
    memoryBytes: totalmem(),
    system: `${type()} ${release()}`,
    loadBefore: loadavg()[0] ?? 0,
  };
}

/** What was measured: name and version of everything that takes part. */
export function versions(go: string | undefined): Record<string, string> {
  return {
    sluice: `${packageVersion("package.json")}${commit()}`,
    node: process.version,
    "connect-node": packageVersion("node_modules/@connectrpc/connect-node/package.json"),
    "protobuf-es": packageVersion("node_modules/@bufbuild/protobuf/package.json"),
    "grpc-js": packageVersion("node_modules/@grpc/grpc-js/package.json"),
    ...(go === undefined
      ? {}
      : {
          go,
          "connect-go": goModule("connectrpc.com/connect"),
          "grpc-go": goModule("google.golang.org/grpc"),
        }),
  };
}

function packageVersion(path: string): string {
  return (JSON.parse(readFileSync(join(root, path), "utf8")) as { version: string }).version;
}

export function goModule(name: string): string {
  const text = readFileSync(join(root, "bench/go/go.mod"), "utf8");
  const line = text.split("\n").find((l) => l.trim().startsWith(`${name} `));
  return line?.trim().split(" ")[1] ?? "unknown";
}

/** The version of one of the crates that the HTTP/3 engine is built from. */
export function crate(name: string): string {
  const text = readFileSync(join(root, "native/Cargo.lock"), "utf8");
  return new RegExp(`^name = "${name}"\\nversion = "([^"]+)"$`, "m").exec(text)?.[1] ?? "unknown";
}

/** Nothing outside a checkout. */
function commit(): string {
  try {
    const options = { cwd: root, encoding: "utf8", stdio: "pipe", timeout: 10_000 } as const;
    const hash = execFileSync("git", ["rev-parse", "--short", "HEAD"], options).trim();
    const changed = execFileSync("git", ["status", "--porcelain", "--", "src", "native/src"], options).trim() !== "";
    return ` (${hash}${changed ? ", changed" : ""})`;
  } catch {
    return "";
  }
}

/** What a reader needs to judge the figures. */
export function notesOf(
  machine: Machine,
  versions: Readonly<Record<string, string>>,
  date: string,
  client: string,
  network: string,
): string[] {
  const all = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  const memory = Math.round(machine.memoryBytes / 2 ** 30);
  return [
    `${date.slice(0, 10)}; ${machine.cores} cores, ${machine.cpu}, ${memory} GiB, ${machine.system}; ${network}; client: ${client}`,
    all.join(", "),
  ];
}
