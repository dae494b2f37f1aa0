/** Sluice beside other servers, in one run. `npm run bench -- --help` */
import { caseName, selectCases } from "./cases.ts";
import type { Case } from "./cases.ts";
import { drawChart } from "./chart.ts";
import { selectContenders } from "./contenders.ts";
import { buildGo, goVersion } from "./go.ts";
import { runLoad } from "./load.ts";
import { describeMachine, notesOf, versions } from "./machine.ts";
import { measureCase } from "./measure.ts";
import type { CaseResult } from "./measure.ts";
import { parseOptions, usage } from "./options.ts";
import type { Options } from "./options.ts";
import { report } from "./report.ts";
import { writeResults } from "./results.ts";
import { startServer } from "./server-process.ts";
import type { ServerProcess } from "./server-process.ts";
import { streamingChart } from "./streaming-chart.ts";
import { summarize } from "./summary.ts";
import type { CaseSummary } from "./summary.ts";
import { targetFor } from "./targets.ts";

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

  const loadOptions = {
    ...options,
    client,
    drain: options.quick ? 0.2 : 2,
    batches: options.quick ? { stream: 50, turns: 5 } : { stream: 200, turns: 10 },
  };
  const names = chosen.map(({ name }) => name);
  const results: CaseResult[] = [];
  const measured: (readonly [Case, CaseSummary])[] = [];
  for (const what of selectCases(options.only, options.quick)) {
    const entrants = chosen.map((contender) => ({
      name: contender.name,
      start: () => startServer(contender.command(options.nodeOptions)),
      load: (server: ServerProcess) => runLoad(server, contender.token, what, loadOptions),
    }));
    const result = await measureCase(caseName(what), entrants, {
      rounds: options.rounds,
      onProgress: (line) => process.stderr.write(`${line}\n`),
    });
    results.push(result);
    const summary = summarize(result, names, {
      latency: what.shape === "unary" || what.shape === "pingpong",
      targetFor: (contender) => targetFor(what, contender),
    });
    measured.push([what, summary]);
  }

  const summaries = measured.map(([, summary]) => summary);
  process.stdout.write(report(summaries, names, options.rounds));
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
      cases: measured.map(([what, summary], i) => ({ ...what, ...summary, rounds: results[i]?.rounds })),
    },
    drawChart(streamingChart(measured, titles, notes)),
  );
  process.stdout.write(`written: ${files.join(", ")}\n`);
}

const options = parseOptions("streaming", process.argv.slice(2));
if (options === undefined) process.stdout.write(usage);
else await main(options);
