import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll } from "vitest";

const module = join(import.meta.dirname, "../go");

/** How long a build without anything in Go's cache may take, in milliseconds. */
const buildTimeoutMs = 10 * 60_000;

type GoProgram =
  | "greetclient"
  | "greetserver"
  | "historycheck"
  | "historyclient"
  | "producerclient"
  | "rawclient"
  | "sessionclient"
  | "uidclient";

/** Builds the programs in ../go before the tests of a file, and says where each is. */
export function useGoPrograms<Name extends GoProgram>(...names: Name[]): (name: Name) => string {
  let dir = "";
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "sluice-go-"));
    const packages = names.map((name) => `./${name}`);
    // A directory as output gets each program under its name.
    const args = ["-C", module, "build", "-o", `${dir}/`, ...packages];
    try {
      await promisify(execFile)("go", args, { timeout: buildTimeoutMs });
    } catch (cause) {
      throw new Error("the Go programs of this lane cannot be built: it needs Go, and its modules", { cause });
    }
  }, buildTimeoutMs);
  afterAll(() => rm(dir, { recursive: true, force: true }));
  return (name) => join(dir, name);
}
