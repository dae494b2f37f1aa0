import { createClient } from "@connectrpc/connect";
import { expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { resolveConfig } from "../../src/config.ts";
import { listen } from "../../src/listen/listen.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { within } from "../support/deadline.ts";
import { createTransport } from "../support/transports.ts";

// Over HTTP/1.1 Node says "drain" within the write itself if the socket takes it all. The stream then waited for ever.
it("a large message over HTTP/1.1 does not stop the stream", async () => {
  const sizes = [5, 200_000, 16, 200_000];
  const config = resolveConfig({ port: 0 });
  const runtime = createRuntime({
    ...config,
    interceptors: [],
    routes(router) {
      router.service(GreetService, {
        async *greetRepeatedly() {
          for (const size of sizes) yield { greeting: "x".repeat(size) };
        },
      });
    },
  });
  const listener = await listen(nodeHandlers(runtime.serve), { ...config, tls: undefined });
  onTestFinished(() => listener.close());
  const made = createTransport({ protocol: "connect", httpVersion: "1.1", tls: false, json: true }, listener.url);
  onTestFinished(made.close);
  const messages = createClient(GreetService, made.transport).greetRepeatedly({})[Symbol.asyncIterator]();
  for (const size of sizes) {
    const { value } = await within(10_000, `the message of ${size}`, messages.next());
    expect(value).toMatchObject({ greeting: "x".repeat(size) });
  }
  expect((await within(10_000, "the end", messages.next())).done).toBe(true);
});
