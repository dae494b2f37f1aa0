import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { expect, it, onTestFinished } from "vitest";

const root = join(import.meta.dirname, "../..");

it("the program in docs/http3.md prints what stands there", async () => {
  const docs = await readFile(join(root, "docs/http3.md"), "utf8");
  const [section = ""] = docs.split("## Taking a stream over\n").slice(1);
  const [, program = "", printed = ""] = /```ts\n(.*?)```.*?```\n(.*?)```/s.exec(section) ?? [];
  const dir = await mkdtemp(join(tmpdir(), "sluice-docs-"));
  onTestFinished(() => rm(dir, { recursive: true }));
  const file = join(dir, "program.mts");
  const urlOf = (path: string): string => pathToFileURL(join(root, path)).href;
  await writeFile(
    file,
    program
      .replace('"sluice"', `"${urlOf("src/index.ts")}"`)
      .replace('"sluice/client"', `"${urlOf("src/client/index.ts")}"`),
  );
  const { stdout } = await promisify(execFile)(process.execPath, [file], { timeout: 60_000 });
  expect(stdout).toBe(printed);
});
