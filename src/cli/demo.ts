import { mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSluiceClient } from "../client/index.ts";
import { start } from "../compose.ts";
import { resolveConfig, sampleToken } from "../config.ts";
import type { ClientConfig, Config } from "../config.ts";
import { createDevCertificates } from "../listen/dev-certificate.ts";
import { runLane } from "./demo-lane.ts";
import type { DemoData, DemoResult } from "./demo-lane.ts";
import { CliError } from "./failure.ts";
import { formatCount, formatSize, formatTable } from "./format.ts";
import type { Session } from "./session.ts";

interface Lane {
  readonly protocol: ClientConfig["protocol"];
  readonly httpVersion: ClientConfig["httpVersion"];
  readonly tls: boolean;
}

/** What the specifications allow: gRPC needs HTTP/2. */
const lanes: readonly Lane[] = [false, true].flatMap((tls) => [
  { protocol: "connect" as const, httpVersion: "2" as const, tls },
  { protocol: "grpc" as const, httpVersion: "2" as const, tls },
  { protocol: "grpc-web" as const, httpVersion: "2" as const, tls },
  { protocol: "connect" as const, httpVersion: "1.1" as const, tls },
  { protocol: "grpc-web" as const, httpVersion: "1.1" as const, tls },
]);

/** How much of the file is sent over each lane. */
const fileBytes = 8 * 1024 * 1024;

/** Starts servers of its own, calls every method over every protocol, and prints what came and how fast. */
export async function runDemo({ out, signal }: Session): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-demo-"));
  const results: { lane: Lane; result: DemoResult }[] = [];
  try {
    const data = await loadData();
    const ca = await writeCertificates(dir);
    await using clear = await startServer({ dataDir: join(dir, "clear") });
    await using tls = await startServer({
      dataDir: join(dir, "tls"),
      tlsCert: join(dir, "cert.pem"),
      tlsKey: join(dir, "key.pem"),
    });
    await out.text(
      `sending ${formatSize(data.file.byteLength)} of ${process.execPath}, and ${formatCount(data.lines.length)} lines of this program's source`,
    );
    for (const lane of lanes) {
      const { protocol, httpVersion } = lane;
      await using client = createSluiceClient({
        url: (lane.tls ? tls : clear).url,
        token: sampleToken,
        protocol,
        httpVersion,
        ca,
      });
      const prefix = `demo/${protocol}-${httpVersion}`;
      const running = runLane({ client, prefix, bidi: httpVersion === "2", signal }, data);
      for await (const result of running) {
        results.push({ lane, result });
        if (out.json) await out.result("", { ...lane, ...result });
      }
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  await out.text(table(results));
  const wrong = results.filter(({ result }) => !result.right);
  if (wrong.length > 0) {
    throw new CliError(
      "mismatch",
      `what came back differs from what was sent: ${wrong.map(({ lane, result }) => `${result.method} over ${laneName(lane)}`).join(", ")}`,
    );
  }
  await out.text(`\nall ${results.length} as expected`);
}

async function startServer(config: Partial<Config>): Promise<{ url: string } & AsyncDisposable> {
  const server = await start(resolveConfig({ port: 0, logLevel: "silent", drainTimeout: 1000, ...config }));
  return { url: server.url, [Symbol.asyncDispose]: () => server.close() };
}

async function writeCertificates(dir: string): Promise<string> {
  const pems = await createDevCertificates({ hosts: ["localhost", "127.0.0.1", "::1"], days: 1 });
  await writeFile(join(dir, "cert.pem"), pems.cert);
  await writeFile(join(dir, "key.pem"), pems.key, { mode: 0o600 });
  return pems.ca;
}

/** Real data that every machine has: the beginning of the Node binary, and a source of ours. */
async function loadData(): Promise<DemoData> {
  await using node = await open(process.execPath);
  const buffer = new Uint8Array(fileBytes);
  const { bytesRead } = await node.read(buffer, 0, fileBytes, 0);
  const source = await readFile(import.meta.filename, "utf8");
  return { file: buffer.subarray(0, bytesRead), lines: source.split("\n") };
}

function table(results: readonly { lane: Lane; result: DemoResult }[]): string {
  const rows = results.map(({ lane, result }) => [
    laneName(lane),
    result.method,
    result.shape,
    formatCount(result.messages),
    result.bytes === 0 ? "" : formatSize(result.bytes),
    (result.seconds * 1000).toFixed(0),
    formatCount(Math.round(result.messages / result.seconds)),
    result.bytes === 0 ? "" : (result.bytes / 1e6 / result.seconds).toFixed(1),
    result.right ? "ok" : "DIFFERS",
  ]);
  return formatTable(["OVER", "METHOD", "SHAPE", "MESSAGES", "DATA", "MS", "MESSAGES/S", "MB/S", "SEEN"], rows);
}

function laneName({ protocol, httpVersion, tls }: Lane): string {
  return `${protocol}, HTTP/${httpVersion}${tls ? ", TLS" : ""}`;
}
