import { onTestFinished } from "vitest";
import { start } from "../../src/compose.ts";
import type { Server, StartOptions } from "../../src/compose.ts";
import { resolveConfig } from "../../src/config.ts";
import type { Config } from "../../src/config.ts";
import { createLogger } from "../../src/observe/log.ts";

/** A server on a free port of loopback, in memory and silent, unless told otherwise. */
export function startServer(config: Partial<Config> = {}, options: StartOptions = {}): Promise<Server> {
  return start(resolveConfig({ port: 0, store: "memory", drainTimeout: 1000, ...config }), {
    log: createLogger("silent"),
    ...options,
  });
}

/** The same, closed at the end of the test that calls it. */
export async function useServer(config: Partial<Config> = {}, options: StartOptions = {}): Promise<Server> {
  const server = await startServer(config, options);
  onTestFinished(() => server.close());
  return server;
}
