import { toBinary, create } from "@bufbuild/protobuf";
import { once } from "node:events";
import { request } from "node:http";
import type { IncomingMessage } from "node:http";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { GreetRepeatedlyRequestSchema, GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { sleep } from "../../src/async/signals.ts";
import { resolveConfig } from "../../src/config.ts";
import { listen } from "../../src/listen/listen.ts";
import type { Listener } from "../../src/listen/listen.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { within } from "../support/deadline.ts";
import { envelope, post, useSession } from "../support/raw.ts";
import { useServer } from "../support/server.ts";

const types = {
  connect: "application/connect+proto",
  grpc: "application/grpc+proto",
  "grpc-web": "application/grpc-web+proto",
} as const;

const paths = {
  client: "/greet.v1.GreetService/GreetAll",
  server: "/greet.v1.GreetService/GreetRepeatedly",
  bidi: "/greet.v1.GreetService/GreetEach",
} as const;

const oneRequest = envelope(
  toBinary(GreetRepeatedlyRequestSchema, create(GreetRepeatedlyRequestSchema, { name: "Ada" })),
);

/** Handlers that set a header and then say nothing, until they are ended. */
async function serveSilence(): Promise<Listener> {
  const config = resolveConfig({ port: 0 });
  const forever = (signal: AbortSignal): Promise<void> => sleep(3_600_000, signal);
  const runtime = createRuntime({
    ...config,
    interceptors: [],
    routes(router) {
      router.service(GreetService, {
        greet: () => ({}),
        async greetAll(_, context) {
          context.responseHeader.set("x-early", "yes");
          await forever(context.signal);
          return {};
        },
        async *greetRepeatedly(_, context) {
          context.responseHeader.set("x-early", "yes");
          await forever(context.signal);
          yield {};
        },
        async *greetEach(_, context) {
          context.responseHeader.set("x-early", "yes");
          await forever(context.signal);
          yield {};
        },
      });
    },
  });
  return listen(nodeHandlers(runtime.serve), { ...config, tls: undefined });
}

describe("response headers leave when a stream is admitted, before the first message", () => {
  let listener: Listener;
  beforeAll(async () => {
    listener = await serveSilence();
  });
  afterAll(() => listener.close());

  for (const [protocol, type] of Object.entries(types)) {
    for (const [shape, path] of Object.entries(paths)) {
      it(`${protocol} over h2c, ${shape}`, async () => {
        const call = post(useSession(listener.url), path, { "content-type": type });
        // A server-streaming call begins with its whole request; the others with their headers.
        if (shape === "server") call.stream.end(oneRequest);
        const head = await call.head;
        expect(head).toMatchObject({ ":status": 200, "content-type": type });
        expect(head["x-early"]).toBe("yes");
        expect(head["x-accel-buffering"]).toBe("no");
        expect(call.received).toBe(0);
        expect(call.stream.closed).toBe(false);
      });

      if (protocol === "grpc") continue;
      it(`${protocol} over HTTP/1.1, ${shape}`, async () => {
        const { hostname, port } = new URL(listener.url);
        const req = request({ hostname, port, path, method: "POST", headers: { "content-type": type } });
        req.on("error", () => undefined);
        onTestFinished(() => {
          req.destroy();
        });
        if (shape === "server") req.end(oneRequest);
        else req.flushHeaders();
        const [res] = (await within(10_000, "the response's headers", once(req, "response"))) as [IncomingMessage];
        expect(res.statusCode).toBe(200);
        expect(res.headers).toMatchObject({ "content-type": type, "x-early": "yes", "x-accel-buffering": "no" });
      });
    }
  }
});

it("a call of DataService is admitted on its headers, before `open`", async () => {
  const server = await useServer();
  for (const method of ["Upload", "Exchange"]) {
    const call = post(useSession(server.url), `/data.v1.DataService/${method}`, { "content-type": types.grpc });
    expect(await call.head).toMatchObject({ ":status": 200, "content-type": types.grpc });
    expect(call.received).toBe(0);
  }
});

it("a call that is refused on its headers has one answer, and no body", async () => {
  const server = await useServer();
  const stranger = { "content-type": types.grpc, authorization: "Bearer wrong" };
  const call = post(useSession(server.url), paths.bidi, stranger);
  const { head, trailers, body } = await call.end;
  expect(head["grpc-status"] ?? trailers["grpc-status"]).toBe("16");
  expect(body.byteLength).toBe(0);
});
