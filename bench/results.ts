import { mkdirSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";

const dir = join(import.meta.dirname, "results");

/** Writes what was measured, and its chart. Returns the files' names. */
export function writeResults(name: string, results: object, chart: string): string[] {
  mkdirSync(dir, { recursive: true });
  return [[`${name}.json`, `${JSON.stringify(results, undefined, 1)}\n`] as const, [`${name}.svg`, chart] as const].map(
    ([file, content]) => {
      writeFileSync(join(dir, file), content);
      return relative(process.cwd(), join(dir, file));
    },
  );
}
