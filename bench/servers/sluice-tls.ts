/** Sluice's runtime over TLS, in its defaults: HTTP/2 and HTTP/3 on one port, without the gate, the log and the services of a whole server. */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { again } from "../../src/async/again.ts";
import { resolveConfig } from "../../src/config.ts";
import { isPortInUse } from "../../src/errors.ts";
import { listenHttp3 } from "../../src/http3/listener.ts";
import { listen } from "../../src/listen/listen.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { announce } from "./announce.ts";
import { createBenchRuntime } from "./runtime.ts";

const { values } = parseArgs({
  options: {
    cert: { type: "string", default: "" },
    key: { type: "string", default: "" },
    host: { type: "string", default: "127.0.0.1" },
  },
});
const config = { ...resolveConfig({ port: 0 }), host: values.host };
const tls = { cert: readFileSync(values.cert), key: readFileSync(values.key) };
const runtime = createBenchRuntime(config);
// A number that the system has chosen for UDP may be in use with TCP.
const port = await again(20, isPortInUse, async () => {
  const quic = await listenHttp3(runtime.serve, { ...config, tls });
  try {
    return (await listen(nodeHandlers(runtime.serve), { ...config, port: quic.port, tls })).port;
  } catch (error) {
    await quic.close();
    throw error;
  }
});
announce(port, values.host);
