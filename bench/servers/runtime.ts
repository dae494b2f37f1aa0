import type { Config } from "../../src/config.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import type { Runtime } from "../../src/runtime/handler.ts";
import { routes } from "./service.ts";

/** Sluice's runtime with the service, without the gate, the log and the services of a whole server. */
export function createBenchRuntime(config: Config): Runtime {
  return createRuntime({
    ...config,
    routes,
    interceptors: [],
    onUnexpected: (error) => {
      console.error(error);
    },
  });
}
