/** HTTP/3 beside HTTP/2 over TLS on a link that loses packets. `npm run bench:loss -- --help` */
import { runBenchmark } from "./benchmark.ts";
import { writeCertificates } from "./certificates.ts";
import type { CertificateFiles } from "./certificates.ts";
import { buildWithGo } from "./go.ts";
import { selectHttp3Contenders } from "./http3-contenders.ts";
import type { Http3Contender } from "./http3-contenders.ts";
import { lossCaseName, selectLossCases } from "./loss-cases.ts";
import type { LossCase } from "./loss-cases.ts";
import { lossChart } from "./loss-chart.ts";
import { createLossyLink } from "./lossy-link.ts";
import type { LossyLink } from "./lossy-link.ts";
import { crate, goModule, versions } from "./machine.ts";
import type { Entrant } from "./measure.ts";
import { parseOptions, usage } from "./options.ts";
import type { Options } from "./options.ts";
import { startServer } from "./server-process.ts";
import { runTlsLoad, tlsClient } from "./tls-load.ts";

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
  const go = await buildWithGo();
  const contenders = selectHttp3Contenders(options.contenders.length > 0 ? options.contenders : defaults);
  const { sluice = "", node = "" } = versions(go);
  const link = await createLossyLink({ loss, delayMs, seed: 1 });
  try {
    const files = await writeCertificates(link.serverHost);
    try {
      await runBenchmark(
        {
          name: "loss",
          client: tlsClient,
          network: "TLS 1.3",
          versions: { sluice, node, quinn: crate("quinn"), h3: crate("h3"), go, "quic-go": goModule(quicGo) },
          notes: [
            `The link loses ${loss * 100} % of the packets and holds the others up for ${delayMs} ms, in each direction.`,
          ],
          details: { link: { loss, delayMs } },
          contenders,
          cases: selectLossCases(options.only, options.quick),
          caseName: lossCaseName,
          withEntrants: (what, use) =>
            use(contenders.map((contender) => entrant(contender, what, link, files, options))),
          judgement: () => ({ latency: true, targetFor: () => undefined }),
          chart: lossChart,
        },
        options,
      );
    } finally {
      await files.remove();
    }
  } finally {
    await link.remove();
  }
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
