/** HTTP/3 beside quic-go's, and beside HTTP/2 over TLS, in one run. `npm run bench:http3 -- --help` */
import { runBenchmark } from "./benchmark.ts";
import { writeCertificates } from "./certificates.ts";
import type { CertificateFiles } from "./certificates.ts";
import { buildWithGo } from "./go.ts";
import { http3CaseName, selectHttp3Cases } from "./http3-cases.ts";
import type { Http3Case } from "./http3-cases.ts";
import { http3Chart } from "./http3-chart.ts";
import { selectHttp3Contenders } from "./http3-contenders.ts";
import type { Http3Contender } from "./http3-contenders.ts";
import { crate, goModule, versions } from "./machine.ts";
import type { Entrant } from "./measure.ts";
import { parseOptions, usage } from "./options.ts";
import type { Options } from "./options.ts";
import { startServer } from "./server-process.ts";
import type { Target } from "./targets.ts";
import { runTlsLoad, tlsClient } from "./tls-load.ts";

/** What Sluice over HTTP/3 is to reach. */
const targets: Readonly<Record<string, Target>> = {
  "quic-go": { figure: "messages/s", atLeast: 1 },
  "sluice-http2": { figure: "messages/s", atLeast: 0.5 },
};

async function main(options: Options): Promise<void> {
  const go = await buildWithGo();
  const contenders = selectHttp3Contenders(options.contenders);
  const { sluice = "", node = "" } = versions(go);
  const files = await writeCertificates("127.0.0.1");
  try {
    await runBenchmark(
      {
        name: "http3",
        client: tlsClient,
        network: "loopback, TLS 1.3",
        versions: {
          sluice,
          node,
          quinn: crate("quinn"),
          h3: crate("h3"),
          go,
          "quic-go": goModule("github.com/quic-go/quic-go"),
          "connect-go": goModule("connectrpc.com/connect"),
        },
        contenders,
        cases: selectHttp3Cases(options.only, options.quick),
        caseName: http3CaseName,
        withEntrants: (what, use) => use(contenders.map((contender) => entrant(contender, what, files, options))),
        judgement: () => ({ latency: false, targetFor: (name) => targets[name] }),
        chart: http3Chart,
      },
      options,
    );
  } finally {
    await files.remove();
  }
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
