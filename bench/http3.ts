/** HTTP/3 beside quic-go's, and beside HTTP/2 over TLS, in one run. `npm run bench:http3 -- --help` */
import { writeCertificates } from "./certificates.ts";
import type { CertificateFiles } from "./certificates.ts";
import { drawChart } from "./chart.ts";
import { buildGo, goVersion } from "./go.ts";
import { http3CaseName, selectHttp3Cases } from "./http3-cases.ts";
import type { Http3Case } from "./http3-cases.ts";
import { http3Chart } from "./http3-chart.ts";
import { selectHttp3Contenders } from "./http3-contenders.ts";
import type { Http3Contender } from "./http3-contenders.ts";
import { crate, describeMachine, goModule, notesOf, versions } from "./machine.ts";
import { measureCase } from "./measure.ts";
import type { CaseResult, Entrant } from "./measure.ts";
import { parseOptions, usage } from "./options.ts";
import type { Options } from "./options.ts";
import { report } from "./report.ts";
import { writeResults } from "./results.ts";
import { startServer } from "./server-process.ts";
import { summarize } from "./summary.ts";
import type { CaseSummary } from "./summary.ts";
import type { Target } from "./targets.ts";
import { runTlsLoad } from "./tls-load.ts";

const client = "quic-go's http3.Transport, net/http for HTTP/2";

/** What Sluice over HTTP/3 is to reach. */
const targets: Readonly<Record<string, Target>> = {
  "quic-go": { figure: "messages/s", atLeast: 1 },
  "sluice-http2": { figure: "messages/s", atLeast: 0.5 },
};

async function main(options: Options): Promise<void> {
  const date = new Date().toISOString();
  const machine = describeMachine();
  const go = await goVersion();
  if (go === undefined) throw new Error("the load client is written in Go, and Go is not installed");
  await buildGo();
  const contenders = selectHttp3Contenders(options.contenders);
  const { sluice = "", node = "" } = versions(go);
  const about = {
    sluice,
    node,
    quinn: crate("quinn"),
    h3: crate("h3"),
    go,
    "quic-go": goModule("github.com/quic-go/quic-go"),
    "connect-go": goModule("connectrpc.com/connect"),
  };
  const notes = notesOf(machine, about, date, client, "loopback, TLS 1.3");
  process.stdout.write(`${notes.join("\n")}\n\n`);

  const names = contenders.map(({ name }) => name);
  const results: CaseResult[] = [];
  const measured: (readonly [Http3Case, CaseSummary])[] = [];
  const files = await writeCertificates("127.0.0.1");
  try {
    for (const what of selectHttp3Cases(options.only, options.quick)) {
      const entrants = contenders.map((contender) => entrant(contender, what, files, options));
      const result = await measureCase(http3CaseName(what), entrants, {
        rounds: options.rounds,
        onProgress: (line) => process.stderr.write(`${line}\n`),
      });
      results.push(result);
      measured.push([what, summarize(result, names, { latency: false, targetFor: (name) => targets[name] })]);
    }
  } finally {
    await files.remove();
  }

  const summaries = measured.map(([, summary]) => summary);
  process.stdout.write(report(summaries, names, options.rounds));
  const titles = new Map(contenders.map(({ name, title }) => [name, title]));
  const written = writeResults(
    options.name,
    {
      benchmark: "http3",
      date,
      machine,
      versions: about,
      client,
      options: { rounds: options.rounds, seconds: options.seconds, warmup: options.warmup, procs: options.procs },
      cases: measured.map(([what, summary], i) => ({ ...what, ...summary, rounds: results[i]?.rounds })),
    },
    drawChart(http3Chart(measured, titles, notes)),
  );
  process.stdout.write(`written: ${written.join(", ")}\n`);
}

function entrant(contender: Http3Contender, what: Http3Case, files: CertificateFiles, options: Options): Entrant {
  return {
    name: contender.name,
    start: () => startServer(contender.command(files, options.nodeOptions)),
    load: (server) =>
      runTlsLoad(server, {
        http3: contender.http3,
        ca: files.ca,
        shape: `${what.shape}-joined`,
        size: what.size,
        streams: what.streams,
        warmup: options.warmup,
        seconds: options.seconds,
        drain: options.quick ? 0.5 : 5,
        procs: options.procs,
      }),
  };
}

const options = parseOptions("http3", process.argv.slice(2));
if (options === undefined) process.stdout.write(usage);
else await main(options);
