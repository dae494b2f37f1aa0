import { create, toBinary } from "@bufbuild/protobuf";
import { expect, it, onTestFinished } from "vitest";
import { GreetAllRequestSchema } from "../../gen/greet/v1/greet_pb.ts";
import { createHttp2Exchanges } from "../../src/client/node-http2-exchange.ts";
import { deferred, until, within } from "../support/deadline.ts";
import { useServer } from "../support/server.ts";

// Node opens no streams on a connection that has 10 MB to send, unless told otherwise.
it("streams that were answered early are over, and keep no others out, with much of their requests unsent", async () => {
  const server = await useServer();
  const { open, sessions } = createHttp2Exchanges(server.url, {
    pingIntervalMs: 60_000,
    pingTimeoutMs: 10_000,
    streamWindow: 65_535,
    connectionWindow: 65_535,
    tls: {},
  });
  onTestFinished(() => {
    sessions.abort();
  });
  for (let i = 0; i < 20; i++) {
    const end = deferred<string>();
    const exchange = await open(
      {
        method: "POST",
        url: `${server.url}/greet.v1.GreetService/GreetAll`,
        // Without a token: the answer is there before the request is.
        header: new Headers({ "content-type": "application/connect+proto" }),
      },
      {
        onHead: () => undefined,
        onChunk: () => undefined,
        onDrain: () => undefined,
        onEnd: () => {
          end.resolve("complete");
        },
        onError: (error) => {
          end.resolve(error.message);
        },
      },
    );
    const message = toBinary(GreetAllRequestSchema, create(GreetAllRequestSchema, { name: "x".repeat(100) }));
    for (let sent = 0; sent < 4 * 1024 * 1024; sent += 256 * 1024) {
      exchange.write([new Uint8Array(256 * 1024).fill(message[0] ?? 0)], () => undefined);
    }
    expect(await within(10_000, `the answer ${i}`, end.promise), String(i)).toBe("complete");
  }
  await until(10_000, "an idle connection", () => sessions.state() === "idle");
});
