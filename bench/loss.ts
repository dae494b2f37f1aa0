/** HTTP/3 beside HTTP/2 over TLS on a link that loses packets. `npm run bench:loss -- --help` */
import { writeCertificates } from "./certificates.ts";
import type { CertificateFiles } from "./certificates.ts";
import { drawChart } from "./chart.ts";
import { buildGo, goVersion } from "./go.ts";
import { selectHttp3Contenders } from "./http3-contenders.ts";
import type { Http3Contender } from "./http3-contenders.ts";
import { lossCaseName, selectLossCases } from "./loss-cases.ts";
import type { LossCase } from "./loss-cases.ts";
import { lossChart } from "./loss-chart.ts";
import { createLossyLink } from "./lossy-link.ts";
import type { LossyLink } from "./lossy-link.ts";
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
import { runTlsLoad } from "./tls-load.ts";

const client = "quic-go's http3.Transport, net/http for HTTP/2";
const quicGo = "github.com/quic-go/quic-go";
/** Those that are compared unless others are named. */
const defaults = ["sluice", "sluice-http2"];
const loss = 0.02;
const delayMs = 50;

/** Until both ends know the link, in seconds. */
const warmup = 5;
/** Longest wait for the answers that are still to come, in seconds: the slowest ones count most. */
const drain = 30;

async function main(options: Options): Promise<void> {
  const date = new Date().toISOString();
  const machine = describeMachine();
  const go = await goVersion();
  if (go === undefined) throw new Error("the link and the load client are written in Go, and Go is not installed");
  await buildGo();
  const contenders = selectHttp3Contenders(options.contenders.length > 0 ? options.contenders : defaults);
  const { sluice = "", node = "" } = versions(go);
  const about = { sluice, node, quinn: crate("quinn"), h3: crate("h3"), go, "quic-go": goModule(quicGo) };
  const notes = [
    ...notesOf(machine, about, date, client, "TLS 1.3"),
    `The link loses ${loss * 100} % of the packets and holds the others up for ${delayMs} ms, in each direction.`,
  ];
  process.stdout.write(`${notes.join("\n")}\n\n`);

  const names = contenders.map(({ name }) => name);
  const results: CaseResult[] = [];
  const measured: (readonly [LossCase, CaseSummary])[] = [];
  const link = await createLossyLink({ loss, delayMs, seed: 1 });
  try {
    const files = await writeCertificates(link.serverHost);
    try {
      for (const what of selectLossCases(options.only, options.quick)) {
        const entrants = contenders.map((contender) => entrant(contender, what, link, files, options));
        const result = await measureCase(lossCaseName(what), entrants, {
          rounds: options.rounds,
          onProgress: (line) => process.stderr.write(`${line}\n`),
        });
        results.push(result);
        measured.push([what, summarize(result, names, { latency: true, targetFor: () => undefined })]);
      }
    } finally {
      await files.remove();
    }
  } finally {
    await link.remove();
  }

  const summaries = measured.map(([, summary]) => summary);
  process.stdout.write(report(summaries, names, options.rounds));
  const titles = new Map(contenders.map(({ name, title }) => [name, title]));
  const written = writeResults(
    options.name,
    {
      benchmark: "loss",
      date,
      machine,
      versions: about,
      client,
      link: { loss, delayMs },
      options: { rounds: options.rounds, seconds: options.seconds, warmup: options.warmup, procs: options.procs },
      cases: measured.map(([what, summary], i) => ({ ...what, ...summary, rounds: results[i]?.rounds })),
    },
    drawChart(lossChart(measured, titles, notes)),
  );
  process.stdout.write(`written: ${written.join(", ")}\n`);
}

function entrant(
  contender: Http3Contender,
  what: LossCase,
  link: LossyLink,
  files: CertificateFiles,
  options: Options,
): Entrant {
  const [program, ...args] = contender.command(files, options.nodeOptions);
  const [ip = "ip", ...enter] = link.atServer;
  return {
    name: contender.name,
    start: () => startServer([ip, ...enter, program, ...args, `--host=${link.serverHost}`]),
    async load(server) {
      const measurement = await runTlsLoad(
        server,
        {
          http3: contender.http3,
          ca: files.ca,
          shape: "paced",
          ...what,
          warmup: Math.max(options.warmup, warmup),
          seconds: options.seconds,
          drain,
          procs: options.procs,
        },
        link.atClient,
      );
      if (!measurement.drained) throw new Error(`some answers took more than ${drain} seconds`);
      return measurement;
    },
  };
}

const options = parseOptions("loss", process.argv.slice(2));
if (options === undefined) process.stdout.write(usage);
else {
  // The namespaces go with the process, which a signal would end without a word to anybody.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
  await main(options);
}
