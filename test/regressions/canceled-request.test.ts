import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { createNodeTransport } from "../../src/client/node-transport.ts";
import { resolveConfig } from "../../src/config.ts";
import { listen } from "../../src/listen/listen.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { deferred, within } from "../support/deadline.ts";

// The client ended the stream that it reset, as Node's `close` does, and a handler took half a request for all of it.
it("a request that its client cancels over HTTP/2 does not look complete", async () => {
  const first = deferred();
  const outcome = deferred<unknown>();
  const config = resolveConfig({ port: 0 });
  const runtime = createRuntime({
    ...config,
    interceptors: [],
    routes(router) {
      router.service(GreetService, {
        async greetAll(requests) {
          try {
            for await (const _ of requests) first.resolve();
            outcome.resolve("complete");
          } catch (error) {
            outcome.resolve(error);
          }
          return {};
        },
      });
    },
  });
  const listener = await listen(nodeHandlers(runtime.serve), { ...config, tls: undefined });
  onTestFinished(() => listener.close());
  const { transport, close } = createNodeTransport({
    url: listener.url,
    protocol: "connect",
    httpVersion: "2",
    interceptors: [],
    readMaxBytes: 1024 * 1024,
  });
  onTestFinished(close);
  const controller = new AbortController();
  async function* requests() {
    yield { name: "Ada" };
    await new Promise(() => undefined);
  }
  const call = createClient(GreetService, transport)
    .greetAll(requests(), { signal: controller.signal })
    .catch((error: unknown) => error);
  await within(10_000, "the first message", first.promise);
  controller.abort();
  expect(await within(10_000, "the handler's end", outcome.promise)).toMatchObject({ code: Code.Canceled });
  expect(await within(10_000, "the call's end", call)).toBeInstanceOf(ConnectError);
});
