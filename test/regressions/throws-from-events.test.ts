import type { ServiceImpl } from "@connectrpc/connect";
import { connect, constants } from "node:http2";
import { expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { within } from "../support/deadline.ts";
import { envelope, post } from "../support/raw.ts";
import { resolveConfig } from "../../src/config.ts";
import { listen } from "../../src/listen/listen.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";

const greetRepeatedlyPath = "/greet.v1.GreetService/GreetRepeatedly";

type Repeat = ServiceImpl<typeof GreetService>["greetRepeatedly"];

/** What a handler may do wrong that only shows once its answer is sent, from an event: each ended the process. */
const handlers: Record<string, Repeat> = {
  // RFC 9113, section 8.2.2: node:http2 refuses to send it. The headers leave in a turn of their own.
  async *"a header that HTTP/2 does not allow"(_, context) {
    context.responseHeader.set("connection", "close");
    await new Promise((resolve) => setTimeout(resolve, 50));
    yield { greeting: "Hello" };
  },
  async *"that header with the first message"(_, context) {
    context.responseHeader.set("connection", "close");
    yield { greeting: "Hello" };
  },
  async *"a trailer that HTTP/2 does not allow"(_, context) {
    context.responseTrailer.set("transfer-encoding", "chunked");
    yield { greeting: "Hello" };
  },
  "an iterator whose return throws"() {
    return {
      [Symbol.asyncIterator]: () => ({
        next: () => Promise.resolve({ done: false, value: { greeting: "Hello" } }),
        return: () => {
          throw new Error("return");
        },
      }),
    } as never;
  },
};

it.each(Object.entries(handlers))(
  "a handler with %s ends its own call, and nothing else",
  async (_, greetRepeatedly) => {
    const unexpected: unknown[] = [];
    const config = resolveConfig({ port: 0 });
    const onUnexpected = (error: unknown): void => void unexpected.push(error);
    const runtime = createRuntime({
      ...config,
      routes: (router) => router.service(GreetService, { greetRepeatedly, greet: ({ name }) => ({ greeting: name }) }),
      interceptors: [],
      onUnexpected,
    });
    const listener = await listen(nodeHandlers(runtime.serve, onUnexpected), {
      ...config,
      tls: undefined,
      onUnexpected,
    });
    onTestFinished(() => listener.close());
    const session = connect(listener.url);
    const sessionErrors: unknown[] = [];
    session.on("error", (error) => sessionErrors.push(error));
    onTestFinished(() => {
      session.destroy();
    });

    const stream = session.request({
      ":method": "POST",
      ":path": greetRepeatedlyPath,
      "content-type": "application/grpc",
    });
    stream.on("error", () => undefined);
    // One handler never ends its answer.
    stream.on("data", () => {
      stream.close(constants.NGHTTP2_CANCEL);
    });
    stream.end(envelope(new Uint8Array()));
    await within(10_000, "the call's end", new Promise((resolve) => stream.once("close", resolve)));
    const other = post(session, "/greet.v1.GreetService/Greet", { "content-type": "application/json" });
    other.stream.end('{"name":"Ada"}');
    expect((await other.end).body.toString()).toBe('{"greeting":"Ada"}');
    expect(sessionErrors).toEqual([]);
    expect(unexpected).not.toEqual([]);
  },
);
