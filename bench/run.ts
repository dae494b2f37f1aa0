/** Sluice beside other servers, in one run. `npm run bench -- --help` */
import { caseName, selectCases } from "./cases.ts";
import { drawChart } from "./chart.ts";
import { selectContenders } from "./contenders.ts";
import { buildGo, goVersion } from "./go.ts";
import { describeMachine, versions } from "./machine.ts";
import { measureCase } from "./measure.ts";
import type { CaseResult } from "./measure.ts";
import { parseOptions, usage } from "./options.ts";
import type { Options } from "./options.ts";
import { figuresTable, ratiosTable } from "./report.ts";
import { writeResults } from "./results.ts";
import { notesOf, streamingChart } from "./streaming-chart.ts";
import { summarize } from "./summary.ts";

const clients = {
  go: "grpc-go",
  node: "node:http2, which is slower than some servers: their figures are the client's",
} as const;

async function main(options: Options): Promise<void> {
  const date = new Date().toISOString();
  const machine = describeMachine();
  const go = await goVersion();
  const client = options.client ?? (go === undefined ? "node" : "go");
  if (go !== undefined) await buildGo();
  const { chosen, missing } = selectContenders(options.contenders, go !== undefined);
  const about = versions(go);
  const notes = [
    ...notesOf(machine, about, date, clients[client]),
    ...missing.map(({ title }) => `Go is not installed, so ${title} was not measured.`),
  ];
  process.stdout.write(`${notes.join("\n")}\n\n`);

  const results: CaseResult[] = [];
  for (const what of selectCases(options.only, options.quick)) {
    results.push(
      await measureCase(what, chosen, {
        ...options,
        client,
        drain: options.quick ? 0.2 : 2,
        batches: options.quick ? { stream: 50, turns: 5 } : { stream: 200, turns: 10 },
        onProgress: (line) => process.stderr.write(`${line}\n`),
      }),
    );
  }

  const names = chosen.map(({ name }) => name);
  const summaries = results.map((result) => summarize(result, names));
  process.stdout.write(`\n${figuresTable(summaries)}\n\n`);
  if (names.length > 1) {
    process.stdout.write(
      `${names[0] ?? ""} against the others, medians of ${options.rounds} rounds; more is better.\n`,
    );
    process.stdout.write(`${ratiosTable(summaries, names)}\n\n`);
  }
  const titles = new Map(chosen.map(({ name, title }) => [name, title]));
  const files = writeResults(
    options.name,
    {
      benchmark: "streaming",
      date,
      machine,
      versions: about,
      client: clients[client],
      options: { rounds: options.rounds, seconds: options.seconds, warmup: options.warmup, procs: options.procs },
      cases: summaries.map((summary, i) => ({ name: caseName(summary), ...summary, rounds: results[i]?.rounds })),
    },
    drawChart(streamingChart(summaries, titles, notes)),
  );
  process.stdout.write(`written: ${files.join(", ")}\n`);
}

const options = parseOptions(process.argv.slice(2));
if (options === undefined) process.stdout.write(usage);
else await main(options);
