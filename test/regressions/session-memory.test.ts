import { connect, constants } from "node:http2";
import { once } from "node:events";
import { expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { resolveConfig } from "../../src/config.ts";
import { listen } from "../../src/listen/listen.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { closing, within } from "../support/deadline.ts";
import { envelopeOf } from "../support/envelopes.ts";

// Node refuses streams of a connection that has 10 MB to send, unless told otherwise: some slow readers kept all others out.
it("a connection with many slow readers takes more calls", async () => {
  const config = resolveConfig({ port: 0 });
  const greeting = "x".repeat(256 * 1024);
  const runtime = createRuntime({
    ...config,
    interceptors: [],
    routes: (router) =>
      router.service(GreetService, {
        async *greetRepeatedly() {
          for (;;) yield await Promise.resolve({ greeting });
        },
      }),
  });
  const listener = await listen(nodeHandlers(runtime.serve), { ...config, tls: undefined });
  const session = connect(listener.url);
  session.on("error", () => undefined);
  onTestFinished(async () => {
    session.destroy();
    await listener.close();
  });
  for (let i = 0; i < 80; i++) {
    const stream = session.request({
      ":method": "POST",
      ":path": "/greet.v1.GreetService/GreetRepeatedly",
      "content-type": "application/connect+proto",
    });
    stream.on("error", () => undefined);
    stream.pause();
    stream.end(envelopeOf(new Uint8Array()));
    // It has begun to send when its headers are here, and the next one comes upon what it has to send.
    await within(10_000, `the headers of call ${i}`, Promise.race([once(stream, "response"), closing(stream)]));
    expect(stream.rstCode, `call ${i}`).toBe(constants.NGHTTP2_NO_ERROR);
  }
});
