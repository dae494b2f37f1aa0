/**
 * Runs the Connect conformance suite against Sluice's server and its client.
 * `npm run conformance`, or for a closer look `npm run conformance -- server
 * --run '**' --trace`: what follows the mode goes to the suite's program.
 *
 * Nothing that Sluice speaks is left out, and no case is known to fail.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

const suiteModule = "connectrpc.com/conformance/cmd/connectconformance";
const suiteVersion = "v1.0.6";

const root = join(import.meta.dirname, "../..");
const suiteDir = join(root, ".cache/conformance", suiteVersion);
const suite = join(suiteDir, process.platform === "win32" ? "connectconformance.exe" : "connectconformance");

/** How long one mode may take; on two cores it takes two minutes. */
const longestMs = 8 * 60_000;

const modes = ["server", "client"] as const;
type Mode = (typeof modes)[number];

/** Numbers of cases. */
interface Outcome {
  readonly passed: number;
  /** Those that could not be run are counted here too. */
  readonly failed: number;
}

/** Whether the suite's program is there, after an attempt to make it. */
function installSuite(): boolean {
  if (existsSync(suite)) return true;
  const { error, status } = spawnSync("go", ["install", `${suiteModule}@${suiteVersion}`], {
    env: { ...process.env, GOBIN: suiteDir },
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (error !== undefined) {
    const missing = "code" in error && error.code === "ENOENT";
    console.error(
      missing
        ? "npm run conformance needs Go, to build the suite: install it (https://go.dev/doc/install), with `go` on the PATH"
        : `go could not be run: ${error.message}`,
    );
    return false;
  }
  if (status !== 0) console.error(`the suite could not be built: \`go install\` failed, see above`);
  return status === 0;
}

/** Runs one mode, showing what the suite says, and reads the numbers off its last lines. */
async function run(mode: Mode, args: readonly string[]): Promise<Outcome> {
  const here = import.meta.dirname;
  const program = [process.execPath, join(here, `${mode}.ts`)];
  const child = spawn(suite, ["--mode", mode, "--conf", join(here, `${mode}.yaml`), ...args, "--", ...program], {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
  });
  // Each server of the suite's ends with a GOAWAY. Hundreds of lines that say so would hide what matters.
  createInterface(child.stderr).on("line", (line) => {
    if (!line.includes("http2: received GOAWAY")) console.error(line);
  });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    process.stdout.write(chunk);
    text += chunk;
  });
  // When a call takes too long, the suite gives up and can wait for itself for ever.
  const timer = setTimeout(() => {
    console.error(`the suite has not come to an end within ${longestMs / 60_000} minutes`);
    child.kill("SIGKILL");
  }, longestMs);
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  clearTimeout(timer);
  const passed = count(text, /^(\d+) passed, \d+ failed$/m);
  const failed = count(text, /^\d+ passed, (\d+) failed$/m) + count(text, /^Another (\d+) could not be run/m);
  // A suite that fails without a failing case, or runs none, has not shown anything.
  return { passed, failed: failed === 0 && (status !== 0 || passed === 0) ? 1 : failed };
}

function count(text: string, pattern: RegExp): number {
  return Number(pattern.exec(text)?.[1] ?? 0);
}

async function main(): Promise<void> {
  const [first, ...rest] = process.argv.slice(2);
  const chosen = modes.find((mode) => mode === first);
  const args = chosen === undefined ? process.argv.slice(2) : rest;
  if (!installSuite()) {
    process.exitCode = 1;
    return;
  }
  const summary: string[] = [];
  for (const mode of chosen === undefined ? modes : [chosen]) {
    console.log(`\n== conformance of the ${mode}, ${suiteVersion}`);
    const { passed, failed } = await run(mode, args);
    summary.push(`conformance ${mode}: ${passed + failed} cases, ${passed} passed, ${failed} failed`);
    if (failed > 0) process.exitCode = 1;
  }
  console.log(`\n${summary.join("\n")}`);
}

await main();
