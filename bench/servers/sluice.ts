/** Sluice's runtime behind its listener, in their defaults, without the gate, the log and the services of a whole server. */
import { resolveConfig } from "../../src/config.ts";
import { listen } from "../../src/listen/listen.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { announce } from "./announce.ts";
import { createBenchRuntime } from "./runtime.ts";

const config = resolveConfig({ port: 0 });
const runtime = createBenchRuntime(config);
const listener = await listen(nodeHandlers(runtime.serve), { ...config, tls: undefined });
announce(Number(new URL(listener.url).port));
