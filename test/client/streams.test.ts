import { Code, ConnectError } from "@connectrpc/connect";
import type { Client, ServiceImpl } from "@connectrpc/connect";
import { describe, expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { createNodeTransport } from "../../src/client/node-transport.ts";
import { createStreamingClient } from "../../src/client/streaming-client.ts";
import { resolveConfig } from "../../src/config.ts";
import { listen } from "../../src/listen/listen.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { Taker, collect, failureOf, requests } from "../support/calls.ts";
import { deferred, until, within } from "../support/deadline.ts";
import { laneName, lanes } from "../support/transports.ts";
import type { Lane } from "../support/transports.ts";

/** A client on the transport of Sluice's own, for a server of the test's own. */
async function useGreet(
  lane: Lane,
  greet: Partial<ServiceImpl<typeof GreetService>>,
): Promise<Client<typeof GreetService>> {
  const config = resolveConfig({ port: 0 });
  const runtime = createRuntime({
    ...config,
    interceptors: [],
    routes: (router) => router.service(GreetService, greet),
  });
  const listener = await listen(nodeHandlers(runtime.serve), { ...config, tls: undefined });
  const client = clientOf(lane, listener.url);
  onTestFinished(() => listener.close());
  return client;
}

function clientOf(lane: Lane, url: string): Client<typeof GreetService> {
  const { transport, close } = createNodeTransport({
    ...lane,
    url,
    interceptors: [],
    readMaxBytes: 1024 * 1024,
    useBinaryFormat: lane.json !== true,
  });
  onTestFinished(close);
  return createStreamingClient(GreetService, transport);
}

/** Yields for as long as it is asked, and says when it is left. */
function endless() {
  const left = deferred();
  let made = 0;
  async function* names() {
    try {
      for (;;) {
        made++;
        yield await Promise.resolve({ name: "x".repeat(1000) });
      }
    } finally {
      left.resolve();
    }
  }
  return { names, left: left.promise, made: () => made };
}

for (const lane of lanes.filter(({ tls }) => !tls)) {
  describe(`a streaming call: ${laneName(lane)}`, () => {
    it("brings headers, messages and trailers", async () => {
      const greet = await useGreet(lane, {
        async *greetRepeatedly({ name }, context) {
          context.responseHeader.set("x-asked", context.requestHeader.get("x-asks") ?? "");
          yield { greeting: name };
          yield await Promise.resolve({ greeting: `${name}!` });
          context.responseTrailer.set("x-late", "yes");
        },
      });
      const seen: Record<string, string | null> = {};
      const greetings = await collect(
        greet.greetRepeatedly(
          { name: "Ada" },
          {
            headers: { "x-asks": "what" },
            onHeader: (header) => (seen["asked"] = header.get("x-asked")),
            onTrailer: (trailer) => (seen["late"] = trailer.get("x-late")),
          },
        ),
      );
      expect(greetings.map(({ greeting }) => greeting)).toEqual(["Ada", "Ada!"]);
      expect(seen).toEqual({ asked: "what", late: "yes" });
    });

    it("fails with the server's error after what came before it", async () => {
      const greet = await useGreet(lane, {
        async *greetRepeatedly() {
          yield await Promise.resolve({ greeting: "one" });
          throw new ConnectError("enough", Code.ResourceExhausted, { "x-why": "tired" });
        },
      });
      const taker = new Taker(greet.greetRepeatedly({}));
      expect((await taker.take()).greeting).toBe("one");
      const error = await failureOf(taker.take());
      expect(error).toMatchObject({ code: Code.ResourceExhausted, rawMessage: "enough" });
      expect(error.metadata.get("x-why")).toBe("tired");
    });

    it("that is left with break ends the handler", async () => {
      const ended = deferred();
      const greet = await useGreet(lane, {
        async *greetRepeatedly(_request, { signal }) {
          try {
            yield { greeting: "one" };
            await new Promise((_, reject) => {
              signal.addEventListener("abort", () => {
                reject(signal.reason as Error);
              });
            });
          } finally {
            ended.resolve();
          }
        },
      });
      for await (const _ of greet.greetRepeatedly({})) break;
      await within(10_000, "the handler's end", ended.promise);
    });

    it("ends with its signal and with its deadline, on both sides", async () => {
      const ended = [deferred(), deferred()];
      let call = 0;
      const greet = await useGreet(lane, {
        async greetAll(names) {
          const mine = ended[call++];
          try {
            for await (const _ of names);
            return {};
          } finally {
            mine?.resolve();
          }
        },
      });
      const controller = new AbortController();
      const waiting = requests({ name: "Ada" });
      const aborted = failureOf(greet.greetAll(waiting, { signal: controller.signal }));
      await until(10_000, "the call", () => call === 1);
      controller.abort();
      expect((await aborted).code).toBe(Code.Canceled);
      await within(10_000, "the handler's end", ended[0]?.promise ?? Promise.resolve());
      const late = await failureOf(greet.greetAll(requests({ name: "Ada" }), { timeoutMs: 100 }));
      expect(late.code).toBe(Code.DeadlineExceeded);
      // A deadline of 100 ms may have passed before the call arrived.
      if (call === 2) await within(10_000, "the handler's end", ended[1]?.promise ?? Promise.resolve());
    });

    it("gets an answer that does not wait for its requests, and lets go of them", async () => {
      const greet = await useGreet(lane, {
        async greetAll(names) {
          for await (const _ of names) break;
          return { greeting: "enough" };
        },
      });
      const source = endless();
      const answer = await within(10_000, "the answer", greet.greetAll(source.names()));
      expect(answer.greeting).toBe("enough");
      await within(10_000, "the end of the requests", source.left);
    });

    it("fails with what its requests fail with, and the server does not take it for the end", async () => {
      const outcome = deferred<string>();
      const greet = await useGreet(lane, {
        async greetAll(names) {
          try {
            for await (const _ of names);
            outcome.resolve("complete");
          } catch {
            outcome.resolve("broken off");
          }
          return {};
        },
      });
      async function* names() {
        yield await Promise.resolve({ name: "Ada" });
        throw new ConnectError("no more names", Code.DataLoss);
      }
      const error = await failureOf(greet.greetAll(names()));
      expect(error).toMatchObject({ code: Code.DataLoss, rawMessage: "no more names" });
      expect(await within(10_000, "the handler's end", outcome.promise)).toBe("broken off");
    });

    it("does not run ahead of a server that does not read", async () => {
      const release = deferred();
      onTestFinished(() => {
        release.resolve();
      });
      const greet = await useGreet(lane, {
        async greetAll() {
          await release.promise;
          return {};
        },
      });
      const source = endless();
      const controller = new AbortController();
      const call = failureOf(greet.greetAll(source.names(), { signal: controller.signal }));
      let before = -1;
      await until(20_000, "a pause of the sender", async () => {
        const made = source.made();
        const still = made > 0 && made === before;
        before = made;
        await new Promise((resolve) => setTimeout(resolve, 100));
        return still;
      });
      // The window, the sockets' buffers, and what waits for them: each some MiB at most, of 1,000 bytes a message.
      expect(source.made()).toBeLessThan(20_000);
      controller.abort();
      expect((await call).code).toBe(Code.Canceled);
    });

    it("refuses a message larger than its limit, after those before it", async () => {
      const greet = await useGreet(lane, {
        async *greetRepeatedly() {
          yield await Promise.resolve({ greeting: "small" });
          yield { greeting: "x".repeat(1024 * 1024 + 1) };
        },
      });
      const taker = new Taker(greet.greetRepeatedly({}));
      expect((await taker.take()).greeting).toBe("small");
      expect((await failureOf(taker.take())).code).toBe(Code.ResourceExhausted);
    });

    it("fails with UNAVAILABLE if nobody listens", async () => {
      // Port 1 of loopback. A port that was free a moment ago may be another test's by now.
      const greet = clientOf(lane, "http://127.0.0.1:1");
      expect((await failureOf(collect(greet.greetRepeatedly({})))).code).toBe(Code.Unavailable);
      expect((await failureOf(greet.greetAll(requests({ name: "Ada" }).ended()))).code).toBe(Code.Unavailable);
    });
  });
}
