/** Sluice beside other servers, in one run. `npm run bench -- --help` */
import { runBenchmark } from "./benchmark.ts";
import { caseName, selectCases } from "./cases.ts";
import { selectContenders } from "./contenders.ts";
import { buildGo, goVersion } from "./go.ts";
import { runLoad } from "./load.ts";
import { versions } from "./machine.ts";
import { parseOptions, usage } from "./options.ts";
import type { Options } from "./options.ts";
import { startServer } from "./server-process.ts";
import { streamingChart } from "./streaming-chart.ts";
import { targetFor } from "./targets.ts";

const clients = {
  go: "grpc-go",
  node: "node:http2, which is slower than some servers: their figures are the client's",
} as const;

async function main(options: Options): Promise<void> {
  const go = await goVersion();
  const client = options.client ?? (go === undefined ? "node" : "go");
  if (go !== undefined) await buildGo();
  const { chosen, missing } = selectContenders(options.contenders, go !== undefined, options.before);
  const loadOptions = {
    ...options,
    client,
    drain: options.quick ? 0.2 : 2,
    batches: options.quick ? { stream: 50, turns: 5 } : { stream: 200, turns: 10 },
  };
  await runBenchmark(
    {
      name: "streaming",
      client: clients[client],
      network: "loopback, h2c",
      versions: versions(go),
      notes: missing.map(({ title }) => `Go is not installed, so ${title} was not measured.`),
      contenders: chosen,
      cases: selectCases(options.only, options.quick),
      caseName,
      withEntrants: (what, use) =>
        use(
          chosen.map((contender) => ({
            name: contender.name,
            start: () => startServer(contender.command(options.nodeOptions)),
            load: (server) => runLoad(server, contender.token, what, loadOptions),
          })),
        ),
      judgement: (what) => ({
        latency: what.shape === "unary" || what.shape === "pingpong",
        targetFor: (contender) => targetFor(what, contender),
      }),
      chart: streamingChart,
    },
    options,
  );
}

const options = parseOptions("streaming", process.argv.slice(2));
if (options === undefined) process.stdout.write(usage);
else await main(options);
