import { createRegistry } from "@bufbuild/protobuf";
import type { ConnectRouterOptions } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { GreetRequestSchema, GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { collectRoutes } from "../../src/runtime/routes.ts";

const path = "/greet.v1.GreetService/GreetEach";

function routeWith(own?: ConnectRouterOptions) {
  const routes = collectRoutes((router) => router.service(GreetService, {}, own), {
    maxMessageBytesOf: () => 1024,
    maxMessageElements: 1000,
  });
  return routes.get(path);
}

it("a service is served by the runtime, also with options for JSON", () => {
  expect(routeWith()?.enveloped).toBeDefined();
  expect(routeWith({ jsonOptions: { registry: createRegistry(GreetRequestSchema) } })?.enveloped).toBeDefined();
});

it("a service with other options is left to Connect's handlers", () => {
  const route = routeWith({ readMaxBytes: 1, jsonOptions: {} });
  expect(route?.handler.requestPath).toBe(path);
  expect(route?.enveloped).toBeUndefined();
});
