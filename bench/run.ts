/** Sluice beside other servers, in one run. `npm run bench -- --help` */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { caseName, selectCases } from "./cases.ts";
import { contenders as allContenders } from "./contenders.ts";
import type { Contender } from "./contenders.ts";
import { buildGo, goVersion } from "./go.ts";
import { measureCase } from "./measure.ts";
import type { CaseResult } from "./measure.ts";
import { parseOptions, usage } from "./options.ts";
import { figuresTable, ratiosTable } from "./report.ts";
import { summarize } from "./summary.ts";

const options = parseOptions(process.argv.slice(2));
if (options === undefined) {
  process.stdout.write(usage);
  process.exit();
}
const go = await goVersion();
if (go === undefined) throw new Error("go is missing");
await buildGo();
const contenders = selectContenders(options.contenders);
const cases = selectCases(options.only, options.quick);
const results: CaseResult[] = [];
for (const what of cases) {
  results.push(
    await measureCase(what, contenders, {
      ...options,
      drain: options.quick ? 0.2 : 2,
      onProgress: (line) => process.stderr.write(`${line}\n`),
    }),
  );
}
const names = contenders.map(({ name }) => name);
const summaries = results.map((result) => summarize(result, names));
process.stdout.write(`\n${figuresTable(summaries)}\n\n${ratiosTable(summaries, names)}\n`);
const dir = join(import.meta.dirname, "results");
mkdirSync(dir, { recursive: true });
const file = join(dir, `${options.name}.json`);
writeFileSync(
  file,
  `${JSON.stringify({ summaries, rounds: results.map((r) => ({ case: caseName(r), rounds: r.rounds })) }, undefined, 1)}\n`,
);
process.stdout.write(`\nwritten: ${file}\n`);

/** Those that are named, or every one that is not optional; in their usual order, as the first is compared. */
function selectContenders(names: readonly string[]): Contender[] {
  for (const name of names) {
    if (!allContenders.some((c) => c.name === name)) {
      throw new Error(`--contenders ${name}: there are ${allContenders.map((c) => c.name).join(", ")}`);
    }
  }
  return allContenders.filter((c) => (names.length === 0 ? c.optional !== true : names.includes(c.name)));
}
