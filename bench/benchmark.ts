import { drawChart } from "./chart.ts";
import type { Chart } from "./chart.ts";
import { describeMachine, notesOf } from "./machine.ts";
import { measureCase } from "./measure.ts";
import type { CaseResult, Entrant } from "./measure.ts";
import type { Options } from "./options.ts";
import { report } from "./report.ts";
import { writeResults } from "./results.ts";
import { summarize } from "./summary.ts";
import type { CaseSummary, Judgement } from "./summary.ts";

/** A benchmark of cases, each described by a C. */
export interface Benchmark<C extends object> {
  readonly name: string;
  /** What makes the load. */
  readonly client: string;
  /** What lies between client and server. */
  readonly network: string;
  /** Name and version of everything that takes part. */
  readonly versions: Readonly<Record<string, string>>;
  /** What else a reader needs to judge the figures. */
  readonly notes?: readonly string[];
  /** What else the results say of the run. */
  readonly details?: object;
  /** The one that the others are compared with stands first. */
  readonly contenders: readonly { readonly name: string; readonly title: string }[];
  readonly cases: readonly C[];
  readonly caseName: (what: C) => string;
  /** Hands those that take part in a case to `use`, and clears up when that is done. */
  readonly withEntrants: (what: C, use: (entrants: readonly Entrant[]) => Promise<CaseResult>) => Promise<CaseResult>;
  readonly judgement: (what: C) => Judgement;
  readonly chart: (
    measured: readonly (readonly [C, CaseSummary])[],
    titles: ReadonlyMap<string, string>,
    notes: readonly string[],
  ) => Chart;
}

/** Measures each case, prints the tables, and writes the results and their chart. */
export async function runBenchmark<C extends object>(benchmark: Benchmark<C>, options: Options): Promise<void> {
  const { client, versions, contenders } = benchmark;
  const date = new Date().toISOString();
  const machine = describeMachine();
  const notes = [...notesOf(machine, versions, date, client, benchmark.network), ...(benchmark.notes ?? [])];
  process.stdout.write(`${notes.join("\n")}\n\n`);

  const measured: (readonly [C, CaseSummary])[] = [];
  const results: CaseResult[] = [];
  for (const what of benchmark.cases) {
    const result = await benchmark.withEntrants(what, (entrants) =>
      measureCase(benchmark.caseName(what), entrants, {
        rounds: options.rounds,
        onProgress: (line) => process.stderr.write(`${line}\n`),
      }),
    );
    results.push(result);
    measured.push([what, summarize(result, namesIn(result, contenders), benchmark.judgement(what))]);
  }

  const summaries = measured.map(([, summary]) => summary);
  const names = contenders.map(({ name }) => name);
  process.stdout.write(report(summaries, names, options.rounds));
  const { rounds, seconds, warmup, procs } = options;
  const written = writeResults(
    options.name,
    {
      benchmark: benchmark.name,
      date,
      machine,
      versions,
      client,
      ...benchmark.details,
      options: { rounds, seconds, warmup, procs },
      cases: measured.map(([what, summary], i) => ({ ...what, ...summary, rounds: results[i]?.rounds })),
    },
    drawChart(benchmark.chart(measured, new Map(contenders.map(({ name, title }) => [name, title])), notes)),
  );
  process.stdout.write(`written: ${written.join(", ")}\n`);
}

/** Those of the contenders that took part, in their order. */
function namesIn({ rounds }: CaseResult, contenders: readonly { readonly name: string }[]): string[] {
  return contenders.map(({ name }) => name).filter((name) => rounds.some((round) => name in round));
}
