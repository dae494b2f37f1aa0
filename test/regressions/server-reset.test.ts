import { connect, constants } from "node:http2";
import { expect, it, onTestFinished } from "vitest";
import { resolveConfig } from "../../src/config.ts";
import { listen } from "../../src/listen/listen.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { deferred, within } from "../support/deadline.ts";

// The stream was destroyed on this side as soon as it was closed, before Node had sent the reset.
it("a client of HTTP/2 is told when the server cuts its stream", async () => {
  const listener = await listen(
    nodeHandlers((exchange) => {
      exchange.sendHead(200, new Headers());
      exchange.write([Buffer.from("half of it")]);
      exchange.reset();
    }),
    { ...resolveConfig({ port: 0 }), tls: undefined },
  );
  onTestFinished(() => listener.close());
  const session = connect(listener.url);
  onTestFinished(() => {
    session.destroy();
  });
  const stream = session.request({ ":method": "POST", ":path": "/" }, { endStream: false });
  const closed = deferred();
  stream.on("error", () => undefined);
  stream.on("close", closed.resolve);
  stream.resume();
  await within(10_000, "the end", closed.promise);
  expect(stream.rstCode).toBe(constants.NGHTTP2_CANCEL);
});
