/** A whole server of Sluice, as `npm start` runs it, with its gate, its log and a service of ours beside its own. */
import { start } from "../../src/compose.ts";
import { resolveConfig } from "../../src/config.ts";
import { announce } from "./announce.ts";
import { routes } from "./service.ts";

const server = await start(resolveConfig({ port: 0, store: "memory" }), { routes });
announce(Number(new URL(server.url).port));
