import { createClient } from "@connectrpc/connect";
import { describe, expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { resolveConfig } from "../../src/config.ts";
import { listenHttp3 } from "../../src/http3/listener.ts";
import { listen } from "../../src/listen/listen.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { deferred, within } from "../support/deadline.ts";
import { tlsFiles } from "../support/http3.ts";
import { streamLanes, useEnds, useTlsFiles } from "../support/streams.ts";
import type { StreamLane } from "../support/streams.ts";
import { createTransport } from "../support/transports.ts";

useTlsFiles();

const count = 10;
const numbers = Array.from({ length: count }, (_, i) => i);

/** Each is sent only when the other side has told that it has the one before: what is held back would wait forever. */
const lockstep = (from: string, to: string): string[] =>
  numbers.flatMap((i) => [`${from} sends ${i}`, `${to} got ${i}`]);

for (const lane of streamLanes) {
  describe(`chunks of a stream over ${lane.name}`, () => {
    it("arrive one by one while the client goes on sending", async () => {
      const { client, server } = await useEnds(lane);
      const events: string[] = [];
      for (const i of numbers) {
        events.push(`client sends ${i}`);
        await client.write(String(i));
        events.push(`server got ${(await server.read()) ?? "the end"}`);
      }
      await client.writer.close();
      expect([events, await server.read()]).toEqual([lockstep("client", "server"), undefined]);
    });

    it("leave as they are written by the server", async () => {
      const { client, server } = await useEnds(lane);
      await client.writer.close();
      const events: string[] = [];
      for (const i of numbers) {
        events.push(`server sends ${i}`);
        await server.write(String(i));
        events.push(`client got ${(await client.read()) ?? "the end"}`);
      }
      await server.writer.close();
      expect([events, await client.read()]).toEqual([lockstep("server", "client"), undefined]);
    });

    it("pass both ways at once", async () => {
      const { client, server } = await useEnds(lane);
      const events: string[] = [];
      for (const i of numbers) {
        await Promise.all([client.write(`c${i}`), server.write(`s${i}`)]);
        events.push(...(await Promise.all([client.read(), server.read()])).map((text) => text ?? "the end"));
      }
      expect(events).toEqual(numbers.flatMap((i) => [`s${i}`, `c${i}`]));
    });
  });
}

/** A runtime whose handlers tell of each message. */
async function serve({ httpVersion, tls }: StreamLane, onMessage: (name: string) => void, next: () => Promise<void>) {
  const config = resolveConfig({ port: 0 });
  const runtime = createRuntime({
    ...config,
    interceptors: [],
    routes(router) {
      router.service(GreetService, {
        async greetAll(requests) {
          for await (const { name } of requests) onMessage(name);
          return {};
        },
        async *greetRepeatedly() {
          for (const i of numbers) {
            onMessage(String(i));
            yield { greeting: String(i) };
            await next();
          }
        },
      });
    },
  });
  const listener =
    httpVersion === "3"
      ? await listenHttp3(runtime.serve, { ...config, tls: tlsFiles })
      : await listen(nodeHandlers(runtime.serve), { ...config, tls: tls ? tlsFiles : undefined });
  onTestFinished(() => listener.close());
  return `${tls ? "https" : "http"}://127.0.0.1:${listener.port}`;
}

for (const lane of streamLanes) {
  for (const protocol of ["connect", "grpc", "grpc-web"] as const) {
    describe(`messages of an RPC over ${lane.name}, ${protocol}`, () => {
      it("arrive one by one while the client goes on sending", async () => {
        const events: string[] = [];
        const arrived = numbers.map(() => deferred());
        const url = await serve(
          lane,
          (name) => {
            events.push(`server got ${name}`);
            arrived[Number(name)]?.resolve();
          },
          () => Promise.resolve(),
        );
        const { transport, close } = createTransport({ ...lane, protocol }, url, { ca: tlsFiles.ca });
        onTestFinished(close);
        async function* requests() {
          for (const [i, arrival] of arrived.entries()) {
            events.push(`client sends ${i}`);
            yield { name: String(i) };
            await within(10_000, `the arrival of ${i}`, arrival.promise);
          }
        }
        await createClient(GreetService, transport).greetAll(requests());
        expect(events).toEqual(lockstep("client", "server"));
      });

      it("leave as they are yielded by the server", async () => {
        const events: string[] = [];
        let arrived = deferred();
        const url = await serve(
          lane,
          (name) => {
            events.push(`server sends ${name}`);
            arrived = deferred();
          },
          () => within(10_000, "the arrival", arrived.promise),
        );
        const { transport, close } = createTransport({ ...lane, protocol }, url, { ca: tlsFiles.ca });
        onTestFinished(close);
        for await (const { greeting } of createClient(GreetService, transport).greetRepeatedly({})) {
          events.push(`client got ${greeting}`);
          arrived.resolve();
        }
        expect(events).toEqual(lockstep("server", "client"));
      });
    });
  }
}
