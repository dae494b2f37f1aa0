import { expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { resolveConfig } from "../../src/config.ts";
import { listen } from "../../src/listen/listen.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { createRawClient } from "../support/raw-call.ts";

// Node closes an HTTP/1.1 connection that is not kept once the answer is written. If the request was still arriving,
// that reset the connection, and the client lost what it had not read of an answer that was complete.
it("an answer that does not wait for the request arrives whole, also if the connection is not kept", async () => {
  const config = resolveConfig({ port: 0 });
  const runtime = createRuntime({
    ...config,
    interceptors: [],
    routes(router) {
      router.service(GreetService, {
        async *greetEach() {
          yield { greeting: "x".repeat(250_000) };
        },
      });
    },
  });
  const listener = await listen(nodeHandlers(runtime.serve), { ...config, tls: undefined });
  onTestFinished(() => listener.close());
  const client = createRawClient(listener.url, "1.1");
  onTestFinished(() => {
    client.close();
  });
  for (let i = 0; i < 5; i++) {
    const answer = await client.call({
      path: "/greet.v1.GreetService/GreetEach",
      headers: { "content-type": "application/connect+proto", connection: "close" },
      body: Array.from({ length: 40 }, (_, at) => (at % 2 === 0 ? new Uint8Array(1) : 1)),
    });
    expect(answer).toMatchObject({ status: 200, complete: true });
    expect(answer.body.byteLength).toBeGreaterThan(250_000);
  }
  expect(runtime.activeCalls).toBe(0);
});
