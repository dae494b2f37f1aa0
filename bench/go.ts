import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { buildDir } from "./contenders.ts";

const run = promisify(execFile);

/** Packages of bench/go. */
const programs = ["./load", "./dataload", "./grpcserver", "./connectserver", "./http3server", "./lossylink"];

/** Go's version, or undefined where Go is absent. */
export async function goVersion(): Promise<string | undefined> {
  try {
    return (await run("go", ["env", "GOVERSION"], { timeout: 20_000 })).stdout.trim();
  } catch {
    return undefined;
  }
}

/** Builds the load client and Go's servers. The first time takes a minute, and fetches modules. */
export async function buildGo(): Promise<void> {
  // Go takes a name that is no directory for that of one program.
  await mkdir(buildDir, { recursive: true });
  await run("go", ["build", "-o", buildDir, ...programs], {
    cwd: join(import.meta.dirname, "go"),
    timeout: 600_000,
  });
}

/** Builds them where nothing can be measured without. Returns Go's version. */
export async function buildWithGo(): Promise<string> {
  const version = await goVersion();
  if (version === undefined)
    throw new Error("this benchmark needs Go, for its load client: see https://go.dev/doc/install");
  await buildGo();
  return version;
}
