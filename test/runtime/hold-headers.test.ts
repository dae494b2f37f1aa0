import { createClient } from "@connectrpc/connect";
import type { Client, ServiceImpl } from "@connectrpc/connect";
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { resolveConfig } from "../../src/config.ts";
import { listen } from "../../src/listen/listen.ts";
import { callKey } from "../../src/runtime/call.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { deferred, within } from "../support/deadline.ts";
import { createTransport, laneName, lanes } from "../support/transports.ts";
import type { Lane } from "../support/transports.ts";

const deadlineMs = 10_000;

async function useGreet(
  lane: Lane,
  greet: Partial<ServiceImpl<typeof GreetService>>,
  onLateHeaders?: (procedure: string, names: readonly string[]) => void,
) {
  const config = resolveConfig({ port: 0 });
  const runtime = createRuntime({
    ...config,
    interceptors: [],
    ...(onLateHeaders === undefined ? {} : { onLateHeaders }),
    routes: (router) => router.service(GreetService, greet),
  });
  const listener = await listen(nodeHandlers(runtime.serve), { ...config, tls: undefined });
  const { transport, close } = createTransport(lane, listener.url);
  onTestFinished(async () => {
    close();
    await listener.close();
  });
  const client: Client<typeof GreetService> = createClient(GreetService, transport);
  return client;
}

/** Sends its only message once the handler has been called, and the server has had time to answer too early. */
async function* afterwards(called: Promise<void>) {
  await called;
  for (let i = 0; i < 20; i++) await turn();
  yield { name: "Ada" };
}

// A handler whose headers depend on what it reads holds them: else they leave when it first waits.
for (const lane of lanes.filter(({ tls }) => !tls)) {
  describe(laneName(lane), () => {
    it("client streaming: a header that is set after the last request arrives", async () => {
      const called = deferred();
      const client = await useGreet(lane, {
        async greetAll(requests, context) {
          context.values.get(callKey)?.holdHeaders();
          called.resolve();
          for await (const _request of requests) {
          }
          await turn();
          context.responseHeader.set("x-late", "yes");
          return { greeting: "" };
        },
      });
      let header = new Headers();
      await within(
        deadlineMs,
        "the answer",
        client.greetAll(afterwards(called.promise), { onHeader: (h) => (header = h) }),
      );
      expect(header.get("x-late")).toBe("yes");
    });

    it("bidi: a header that is set after the first request arrives", async () => {
      const called = deferred();
      const client = await useGreet(lane, {
        async *greetEach(requests, context) {
          context.values.get(callKey)?.holdHeaders();
          called.resolve();
          for await (const { name } of requests) {
            context.responseHeader.set("x-late", name);
            await turn();
            yield { greeting: name };
          }
        },
      });
      let header = new Headers();
      const greetings: string[] = [];
      const call = client.greetEach(afterwards(called.promise), {
        onHeader: (h) => (header = h),
      });
      await within(
        deadlineMs,
        "the responses",
        (async () => {
          for await (const { greeting } of call) greetings.push(greeting);
        })(),
      );
      expect(header.get("x-late")).toBe("Ada");
      expect(greetings).toEqual(["Ada"]);
    });
  });
}

it("headers that were not held, and came too late, are told to whoever runs the server", async () => {
  const called = deferred();
  const told: unknown[] = [];
  const [lane] = lanes;
  if (lane === undefined) throw new Error("no lane");
  const client = await useGreet(
    lane,
    {
      async greetAll(requests, context) {
        context.responseHeader.set("x-early", "yes");
        called.resolve();
        for await (const _request of requests) {
        }
        context.responseHeader.set("x-late", "yes");
        return { greeting: "" };
      },
    },
    (procedure, names) => told.push([procedure, names]),
  );
  await within(deadlineMs, "the answer", client.greetAll(afterwards(called.promise)));
  expect(told).toEqual([["greet.v1.GreetService/GreetAll", ["x-late"]]]);
});
