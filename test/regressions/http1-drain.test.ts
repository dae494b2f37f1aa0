import { describe, expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { createNodeTransport } from "../../src/client/node-transport.ts";
import { createStreamingClient } from "../../src/client/streaming-client.ts";
import { resolveConfig } from "../../src/config.ts";
import { createDevCertificates } from "../../src/listen/dev-certificate.ts";
import { listen } from "../../src/listen/listen.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { within } from "../support/deadline.ts";

// node:http never says "drain" after a corked write that it refused, if the socket below took it all.
describe("large messages over HTTP/1.1 go on after the first pause", () => {
  // A small one and a large one lie in two pieces of memory, which are written together.
  const texts = Array.from({ length: 40 }, (_, i) => "x".repeat(i % 2 === 0 ? 10 : 256 * 1024));
  const total = texts.join("").length;

  for (const secure of [false, true]) {
    it(secure ? "with TLS" : "in the clear", async () => {
      const tls = secure ? await createDevCertificates({ hosts: ["127.0.0.1"], days: 2 }) : undefined;
      const config = resolveConfig({ port: 0 });
      const runtime = createRuntime({
        ...config,
        interceptors: [],
        routes: (router) =>
          router.service(GreetService, {
            async greetAll(names) {
              let received = 0;
              for await (const { name } of names) received += name.length;
              return { greeting: String(received) };
            },
            async *greetRepeatedly() {
              for (const greeting of texts) yield await Promise.resolve({ greeting });
            },
          }),
      });
      const listener = await listen(nodeHandlers(runtime.serve), { ...config, tls });
      onTestFinished(() => listener.close());
      const { transport, close } = createNodeTransport({
        url: listener.url,
        protocol: "connect",
        httpVersion: "1.1",
        interceptors: [],
        readMaxBytes: 1024 * 1024,
        ...(tls === undefined ? {} : { ca: tls.ca }),
      });
      onTestFinished(close);
      const greet = createStreamingClient(GreetService, transport);
      async function* names() {
        for (const name of texts) yield await Promise.resolve({ name });
      }
      const { greeting } = await within(20_000, "the upload", greet.greetAll(names()));
      expect(greeting).toBe(String(total));
      const download = async (): Promise<number> => {
        let received = 0;
        for await (const message of greet.greetRepeatedly({})) received += message.greeting.length;
        return received;
      };
      expect(await within(20_000, "the download", download())).toBe(total);
    });
  }
});
