/** Durable append and replay, beside other stores, in one run. `npm run bench:data -- --help` */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { drawChart } from "./chart.ts";
import { buildDir } from "./contenders.ts";
import { dataCaseName, selectDataCases } from "./data-cases.ts";
import type { DataCase } from "./data-cases.ts";
import { dataChart } from "./data-chart.ts";
import { dataContenders, makeDataDir, natsVersion } from "./data-contenders.ts";
import type { DataContender } from "./data-contenders.ts";
import { buildGo, goVersion } from "./go.ts";
import type { Measurement } from "./load.ts";
import { describeMachine, goModule, notesOf, versions } from "./machine.ts";
import { measureCase } from "./measure.ts";
import type { CaseResult, Entrant } from "./measure.ts";
import { parseOptions, usage } from "./options.ts";
import type { Options } from "./options.ts";
import { report } from "./report.ts";
import { writeResults } from "./results.ts";
import { summarize } from "./summary.ts";
import type { CaseSummary } from "./summary.ts";

/** NATS 2.9 has no option to flush each write. */
const natsNote =
  "NATS JetStream acknowledges what the kernel has, and flushes it later; Sluice and fdatasync acknowledge what is on the disk.";
/** Longest time of one measurement, with all that has to be stored before, in seconds. */
const timeout = 120;

const run = promisify(execFile);

async function main(options: Options): Promise<void> {
  const date = new Date().toISOString();
  const machine = describeMachine();
  const go = await goVersion();
  if (go === undefined) throw new Error("the load client is written in Go, and Go is not installed");
  await buildGo();
  const nats = await natsVersion();
  const wanted = dataContenders.filter(
    ({ name }) => options.contenders.length === 0 || options.contenders.includes(name),
  );
  const contenders = wanted.filter(({ name }) => name !== "nats" || nats !== undefined);
  const { sluice = "", node = "", "protobuf-es": protobuf = "" } = versions(go);
  const about = {
    sluice,
    node,
    "protobuf-es": protobuf,
    go,
    "grpc-go": goModule("google.golang.org/grpc"),
    ...(nats === undefined ? {} : { "nats-server": nats, "nats.go": goModule("github.com/nats-io/nats.go") }),
  };
  const client = "grpc-go, nats.go";
  const notes = [
    ...notesOf(machine, about, date, client),
    nats === undefined ? "nats-server is not installed, so NATS JetStream was not measured." : natsNote,
  ];
  process.stdout.write(`${notes.join("\n")}\n\n`);

  const results: CaseResult[] = [];
  const measured: (readonly [DataCase, CaseSummary])[] = [];
  for (const what of selectDataCases(options.only, options.quick)) {
    const taking = contenders.filter(({ takesPart }) => takesPart(what));
    const dirs = await Promise.all(taking.map(makeDataDir));
    try {
      const entrants = taking.map((contender, i) => entrant(contender, dirs[i]?.dir ?? "", what, options));
      const result = await measureCase(dataCaseName(what), entrants, {
        rounds: options.rounds,
        onProgress: (line) => process.stderr.write(`${line}\n`),
      });
      results.push(result);
      const names = taking.map(({ name }) => name);
      const judgement = { latency: what.shape !== "replay", targetFor: () => undefined };
      measured.push([what, summarize(result, names, judgement)]);
    } finally {
      await Promise.all(dirs.map(({ remove }) => remove()));
    }
  }

  const summaries = measured.map(([, summary]) => summary);
  const names = contenders.map(({ name }) => name);
  process.stdout.write(report(summaries, names, options.rounds));
  const titles = new Map(contenders.map(({ name, title }) => [name, title]));
  const files = writeResults(
    options.name,
    {
      benchmark: "data",
      date,
      machine,
      versions: about,
      client,
      options: { rounds: options.rounds, seconds: options.seconds, warmup: options.warmup, procs: options.procs },
      cases: measured.map(([what, summary], i) => ({ ...what, ...summary, rounds: results[i]?.rounds })),
    },
    drawChart(dataChart(measured, titles, notes)),
  );
  process.stdout.write(`written: ${files.join(", ")}\n`);
}

function entrant(contender: DataContender, dir: string, what: DataCase, options: Options): Entrant {
  return {
    name: contender.name,
    start: () => contender.start(dir, options.nodeOptions),
    load: (server) => runDataLoad(contender.loadArgs(server, dir), what, options),
  };
}

async function runDataLoad(
  where: ReturnType<DataContender["loadArgs"]>,
  { shape, size, streams, batch, pending, stored }: DataCase,
  options: Options,
): Promise<Measurement> {
  const args = {
    ...where,
    shape: shape === "replay" ? "replay" : "append",
    size,
    streams,
    batch,
    pending,
    stored,
    warmup: `${options.warmup}s`,
    duration: `${options.seconds}s`,
    timeout: `${timeout}s`,
  };
  const { stdout } = await run(
    join(buildDir, "dataload"),
    Object.entries(args).map(([name, value]) => `--${name}=${value}`),
    { env: { ...process.env, GOMAXPROCS: String(options.procs) }, timeout: (timeout + 10) * 1000 },
  );
  return JSON.parse(stdout) as Measurement;
}

const options = parseOptions("data", process.argv.slice(2));
if (options === undefined) process.stdout.write(usage);
else await main(options);
