/** Durable append and replay, beside other stores, in one run. `npm run bench:data -- --help` */
import { join } from "node:path";
import { runBenchmark } from "./benchmark.ts";
import { buildDir } from "./contenders.ts";
import { dataCaseName, selectDataCases } from "./data-cases.ts";
import type { DataCase } from "./data-cases.ts";
import { dataChart } from "./data-chart.ts";
import { makeDataDir, natsVersion, selectDataContenders } from "./data-contenders.ts";
import type { DataContender } from "./data-contenders.ts";
import { buildWithGo } from "./go.ts";
import { runLoadProgram } from "./load-program.ts";
import type { Measurement } from "./load-program.ts";
import { goModule, versions } from "./machine.ts";
import type { Entrant } from "./measure.ts";
import { parseOptions, usage } from "./options.ts";
import type { Options } from "./options.ts";

/** NATS 2.9 has no option to flush each write. */
const natsNote =
  "NATS JetStream acknowledges what the kernel has, and flushes it later; Sluice and fdatasync acknowledge what is on the disk.";
/** Longest time of one measurement, with all that has to be stored before, in seconds. */
const timeout = 120;

async function main(options: Options): Promise<void> {
  const go = await buildWithGo();
  const nats = await natsVersion();
  const contenders = selectDataContenders(options.contenders, nats !== undefined);
  const { sluice = "", node = "", "protobuf-es": protobuf = "" } = versions(go);
  await runBenchmark(
    {
      name: "data",
      client: "grpc-go, nats.go",
      network: "loopback, h2c",
      versions: {
        sluice,
        node,
        "protobuf-es": protobuf,
        go,
        "grpc-go": goModule("google.golang.org/grpc"),
        ...(nats === undefined ? {} : { "nats-server": nats, "nats.go": goModule("github.com/nats-io/nats.go") }),
      },
      notes: [nats === undefined ? "nats-server is not installed, so NATS JetStream was not measured." : natsNote],
      contenders,
      cases: selectDataCases(options.only, options.quick),
      caseName: dataCaseName,
      async withEntrants(what, use) {
        const taking = contenders.filter(({ takesPart }) => takesPart(what));
        const dirs = await Promise.all(taking.map(makeDataDir));
        try {
          return await use(taking.map((contender, i) => entrant(contender, dirs[i]?.dir ?? "", what, options)));
        } finally {
          await Promise.all(dirs.map(({ remove }) => remove()));
        }
      },
      judgement: (what) => ({ latency: what.shape !== "replay", targetFor: () => undefined }),
      chart: dataChart,
    },
    options,
  );
}

function entrant(contender: DataContender, dir: string, what: DataCase, options: Options): Entrant {
  return {
    name: contender.name,
    start: () => contender.start(dir, options.nodeOptions),
    load: (server) => runDataLoad(contender.loadArgs(server, dir), what, options),
  };
}

function runDataLoad(
  where: ReturnType<DataContender["loadArgs"]>,
  { shape, size, streams, batch, pending, stored }: DataCase,
  { warmup, seconds, procs }: Options,
): Promise<Measurement> {
  return runLoadProgram(
    [join(buildDir, "dataload")],
    {
      ...where,
      shape: shape === "replay" ? "replay" : "append",
      size,
      streams,
      batch,
      pending,
      stored,
      warmup: `${warmup}s`,
      duration: `${seconds}s`,
      timeout: `${timeout}s`,
    },
    { procs, timeout: timeout + 10 },
  );
}

const options = parseOptions("data", process.argv.slice(2));
if (options === undefined) process.stdout.write(usage);
else await main(options);
