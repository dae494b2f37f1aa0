/**
 * A Sluice server with HTTP/3, and the page that calls it over WebTransport:
 *
 *   npm run example:browser
 */
import { X509Certificate, createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createServer } from "vite";
import { resolveConfig, start } from "../../src/index.ts";
import { createDevCertificates } from "../../src/listen/dev-certificate.ts";
import { TelemetryHub } from "./telemetry.ts";

const { values } = parseArgs({ options: { port: { type: "string", default: "5173" } } });
const certificates = await mkdtemp(join(tmpdir(), "sluice-example-"));
const tls = { tlsCert: join(certificates, "cert.pem"), tlsKey: join(certificates, "key.pem") };
// Browsers accept a certificate by its hash for 14 days at most.
const { cert, key } = await createDevCertificates({ hosts: ["127.0.0.1"], days: 13 });
await writeFile(tls.tlsCert, cert);
await writeFile(tls.tlsKey, key, { mode: 0o600 });

const telemetry = new TelemetryHub();
const port = Number(values.port);
// Which pages may call is said before there is one.
if (!(port > 0)) throw new Error("--port must be a port that is free, such as 5173");
const origins = ["127.0.0.1", "localhost"].map((host) => `http://${host}:${port}`);
const sluice = await start(resolveConfig({ ...tls, port: 0, store: "memory", http3: true, corsOrigins: origins }), {
  onWebTransportSession: (session) => {
    telemetry.join(session);
  },
});
const page = {
  url: `https://127.0.0.1:${sluice.http3Port}`,
  sha256: createHash("sha256").update(new X509Certificate(cert).raw).digest("hex"),
};
const vite = await createServer({
  root: import.meta.dirname,
  configFile: false,
  logLevel: "error",
  optimizeDeps: { noDiscovery: true },
  server: {
    host: "127.0.0.1",
    port,
    strictPort: true,
    // Nobody changes the page while it is shown.
    hmr: false,
    ws: false,
    fs: { allow: [join(import.meta.dirname, "../..")] },
    // For browsers without WebTransport: what goes over fetch, which knows nothing of the certificate's hash.
    proxy: { "^/(greet|data)[.]v1[.]": { target: sluice.url, secure: false } },
  },
  plugins: [
    {
      name: "where-sluice-is",
      configureServer(server) {
        server.middlewares.use("/sluice.json", (_req, res) => {
          res.setHeader("content-type", "application/json").end(JSON.stringify(page));
        });
      },
    },
  ],
});
await vite.listen();
console.log(`open ${vite.resolvedUrls?.local[0] ?? ""}`);

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    Promise.all([vite.close(), sluice.close(), rm(certificates, { recursive: true })]).then(
      () => process.exit(0),
      (error: unknown) => {
        console.error(error);
        process.exit(1);
      },
    );
  });
}
