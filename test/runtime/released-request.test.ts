import { createServer } from "node:http2";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it, onTestFinished } from "vitest";
import { GreetRepeatedlyRequestSchema, GreetService } from "../../gen/greet/v1/greet_pb.ts";
import type { GreetRepeatedlyRequest } from "../../gen/greet/v1/greet_pb.ts";
import { resolveConfig } from "../../src/config.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { createErrorInterceptor } from "../../src/services/error-codes.ts";
import { until } from "../support/deadline.ts";
import { envelope, post, useSession } from "../support/raw.ts";

// A Watch is open for hours. It need not hold the megabytes of its request for so long.

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as () => void;

const MiB = 1024 * 1024;

async function startRuntime() {
  let request: WeakRef<GreetRepeatedlyRequest> | undefined;
  let unknown: unknown;
  async function* greetings(signal: AbortSignal) {
    yield { greeting: "Hello" };
    await once(signal, "abort");
  }
  const runtime = createRuntime({
    ...resolveConfig(),
    interceptors: [createErrorInterceptor({ onUnexpected: () => undefined })],
    routes: (router) =>
      router.service(GreetService, {
        greetRepeatedly(message, { signal }) {
          request = new WeakRef(message);
          unknown = message.$unknown;
          return greetings(signal);
        },
      }),
  });
  const server = createServer({ settings: { initialWindowSize: MiB } });
  const handlers = nodeHandlers(runtime.serve);
  server.on("stream", (stream, headers) => {
    handlers.onStream(stream, headers);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    memory: runtime.memory,
    request: () => request,
    unknown: () => unknown,
  };
}

describe("the request of a stream", () => {
  for (const protocol of ["grpc", "grpc-web", "connect"] as const) {
    for (const codec of ["proto", "json"] as const) {
      it(`is not held, nor counted, for longer than its handler needs it (${protocol}, ${codec})`, async () => {
        const { url, memory, request, unknown } = await startRuntime();
        const session = useSession(url);
        const call = post(session, `/${GreetService.typeName}/GreetRepeatedly`, {
          "content-type": `application/${protocol}+${codec}`,
          te: "trailers",
        });
        const message = create(GreetRepeatedlyRequestSchema, { name: "x".repeat(3 * MiB) });
        const payload =
          codec === "json"
            ? Buffer.from(JSON.stringify({ name: message.name, more: "unknown" }))
            : Buffer.concat([toBinary(GreetRepeatedlyRequestSchema, message), Buffer.from([0x7a, 1, 65])]);
        call.stream.end(envelope(payload));
        await until(5000, "the first message", () => call.received > 0);
        expect(unknown()).toBeUndefined();
        expect(memory.bytes).toBeGreaterThan(3 * MiB);
        await until(5000, "the end of the request", () => {
          gc();
          return request()?.deref() === undefined;
        });
        await until(5000, "the release of its memory", () => memory.bytes < MiB);
        expect(call.stream.closed).toBe(false);
        call.stream.close();
        await until(5000, "the end of the call", () => memory.bytes === 0);
      });
    }
  }
});
