// A server in a process of somebody else's.
import { createLogger, isDomainError, resolveConfig, start } from "sluice";
import type { Config, Server, StartOptions } from "sluice";
import { createSluiceClient } from "sluice/client";
import { DataService } from "sluice/gen/data/v1/data";

const log = createLogger("silent");
const config: Config = resolveConfig({ port: 0, store: "memory" });
const options: StartOptions = { log };
const server: Server = await start(config, options);

const client = createSluiceClient({ url: server.url, token: "sample" });
const { status } = await client.health.check({ service: DataService.typeName });
await client.close();

let refused = false;
try {
  resolveConfig({ port: -1 });
} catch (error) {
  refused = isDomainError(error) && error.problem.kind === "config";
}
await server.close();
console.log(JSON.stringify({ status, refused }));
