import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { GreetRequestSchema } from "../../gen/greet/v1/greet_pb.ts";
import { createSluiceClient } from "../../src/client/index.ts";
import type { SluiceClient } from "../../src/client/index.ts";
import { runCli, someBytes } from "../support/cli.ts";
import { deferred, until, within } from "../support/deadline.ts";
import { Received, put, tlsFiles, useHttp3Client } from "../support/http3.ts";
import { useCertificateFiles } from "./support/certificates.ts";
import { useGoPrograms } from "./support/go.ts";
import { launch, useProgram } from "./support/programs.ts";
import type { Program } from "./support/programs.ts";

const program = useGoPrograms("greetserver");
const files = useCertificateFiles();
const waitMs = 15_000;

let server: Program;
let url: string;
beforeAll(async () => {
  server = launch(program("greetserver"), ["-cert", files.cert, "-key", files.key]);
  url = (await server.printed(/^listening on (\S+)$/))[1] ?? "";
});
afterAll(async () => {
  server.kill();
  await server.done;
});

async function* named(...names: string[]): AsyncGenerator<{ name: string }> {
  for (const name of names) yield await Promise.resolve({ name });
}

async function failure(call: Promise<unknown>): Promise<ConnectError> {
  const error: unknown = await within(waitMs, "the call's failure", call).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ConnectError);
  return error as ConnectError;
}

for (const protocol of ["connect", "grpc", "grpc-web"] as const) {
  describe(`connect-go on quic-go's server, called with ${protocol}`, () => {
    function useClient(): SluiceClient {
      const client = createSluiceClient({ url, ca: tlsFiles.ca, protocol, httpVersion: "3" });
      onTestFinished(() => client.close());
      return client;
    }

    /** Notes what comes around the messages. */
    function meta(): { options: object; seen: () => (string | null)[] } {
      let version: string | null = null;
      let count: string | null = null;
      const options = {
        onHeader: (header: Headers) => (version = header.get("Greet-Version")),
        onTrailer: (trailer: Headers) => (count = trailer.get("Greet-Count")),
      };
      return { options, seen: () => [version, count] };
    }

    it("answers each shape, headers and trailers included", async () => {
      const { greet } = useClient();
      const unary = meta();
      expect((await within(waitMs, "an answer", greet.greet({ name: "Ada" }, unary.options))).greeting).toBe(
        "Hello, Ada!",
      );
      expect(unary.seen()).toEqual(["v1", "1"]);

      const all = meta();
      const { greeting } = await within(waitMs, "an answer", greet.greetAll(named("Ada", "Grace"), all.options));
      expect(greeting).toBe("Hello, Ada and Grace!");
      expect(all.seen()).toEqual(["v1", "1"]);

      const repeatedly = meta();
      let count = 0;
      for await (const _ of greet.greetRepeatedly({ name: "Ada", times: 20_000 }, repeatedly.options)) count++;
      expect([count, ...repeatedly.seen()]).toEqual([20_000, "v1", "20000"]);
    });

    it("speaks in turn", async () => {
      const { greet } = useClient();
      const each = meta();
      const events: string[] = [];
      let answered = deferred();
      async function* requests(): AsyncGenerator<{ name: string }> {
        for (const name of ["Ada", "Grace", "Edsger"]) {
          events.push(name);
          answered = deferred();
          yield { name };
          await within(waitMs, `the answer to ${name}`, answered.promise);
        }
      }
      for await (const { greeting } of greet.greetEach(requests(), each.options)) {
        events.push(greeting);
        answered.resolve();
      }
      expect(events).toEqual(["Ada", "Hello, Ada!", "Grace", "Hello, Grace!", "Edsger", "Hello, Edsger!"]);
      expect(each.seen()).toEqual(["v1", "3"]);
    });

    it("says why a call fails, in each shape", async () => {
      const { greet } = useClient();
      const name = "nobody";
      const first = (answers: AsyncIterable<unknown>): Promise<unknown> => answers[Symbol.asyncIterator]().next();
      for (const call of [
        () => greet.greet({ name }),
        () => greet.greetAll(named("Ada", name)),
        () => first(greet.greetRepeatedly({ name, times: 1 })),
        () => first(greet.greetEach(named(name))),
      ]) {
        const error = await failure(call());
        expect([error.code, error.rawMessage, error.metadata.get("Greet-Error")]).toEqual([
          Code.NotFound,
          "no such guest",
          "m",
        ]);
        expect(error.findDetails(GreetRequestSchema)).toMatchObject([{ name }]);
      }
    });

    it("sees a client leave, and is left at a deadline", async () => {
      const { greet } = useClient();
      const left = server.lines.filter((line) => line === "left").length;
      const interval = { seconds: 3600n };
      for await (const _ of greet.greetRepeatedly({ name: "Ada", times: 2, interval })) break;
      await server.printed(/^left$/, left + 1);
      const late = (async () => {
        for await (const _ of greet.greetRepeatedly({ name: "Ada", times: 2, interval }, { timeoutMs: 2000 })) {
        }
      })();
      expect((await failure(late)).code).toBe(Code.DeadlineExceeded);
      await server.printed(/^left$/, left + 2);
    });

    it("is called by the command line", async () => {
      const flags = ["--url", url, "--ca", files.ca, "--http3", "--protocol", protocol];
      for (const [shape, names, lines] of [
        ["unary", ["Ada"], ["Hello, Ada!"]],
        ["all", ["Ada", "Grace"], ["Hello, Ada and Grace!"]],
        ["repeatedly", ["Ada"], ["Hello, Ada!", "Hello, Ada!", "Hello, Ada!"]],
        ["each", ["Ada", "Grace"], ["Hello, Ada!", "Hello, Grace!"]],
      ] as const) {
        const { code, stdout, stderr } = await runCli(["greet", ...names, "--shape", shape, ...flags]);
        expect([code, stdout.trim().split("\n"), stderr]).toEqual([0, lines, ""]);
      }
    });
  });
}

describe("quic-go's server, and our exchange", () => {
  const post = (path = "/echo") => ({ method: "POST", url: url + path, header: new Headers() });

  it("answers before the body, and each piece as it is sent", async () => {
    const received = new Received();
    const exchange = await useHttp3Client(url)(post(), received);
    const { status } = await within(waitMs, "the head", received.head.promise);
    expect(status).toBe(200);
    for (let i = 0; i < 10; i++) {
      const arrived = deferred();
      received.onEach = arrived.resolve;
      exchange.write([Buffer.from(String(i))], () => undefined);
      await within(waitMs, `the echo of ${i}`, arrived.promise);
      expect(received.text).toBe("0123456789".slice(0, i + 1));
    }
    exchange.end();
    const trailer = await within(waitMs, "the end", received.end.promise);
    expect(trailer.get("Echo-Bytes")).toBe("10");
  });

  it("gives back 16 MiB, unharmed", async () => {
    const received = new Received();
    const exchange = await useHttp3Client(url)(post(), received);
    const block = someBytes(1024 * 1024);
    for (let i = 0; i < 16; i++) await within(waitMs, `block ${i}`, put(exchange, received, block));
    exchange.end();
    const trailer = await within(waitMs, "the end", received.end.promise);
    expect(trailer.get("Echo-Bytes")).toBe(String(16 * block.byteLength));
    const all = Buffer.concat(received.chunks);
    expect(all.equals(Buffer.concat(Array.from({ length: 16 }, () => block)))).toBe(true);
  });

  it("answers a request of which it wants no more", async () => {
    const open = useHttp3Client(url);
    const received = new Received();
    const stopped = deferred();
    received.drained = stopped.resolve;
    const exchange = await open(post("/refuse"), received);
    exchange.write([Buffer.from("half")], () => undefined);
    // It has asked for no more, and not answered yet.
    await within(waitMs, "the stop", Promise.race([stopped.promise, received.end.promise]));
    const released = new Received();
    (await open(post("/answer"), released)).end();
    await within(waitMs, "the release", released.end.promise);
    await within(waitMs, "the end", received.end.promise);
    expect([(await received.head.promise).status, received.text]).toEqual([200, "enough"]);
  });

  it("is told of a reset", async () => {
    const left = server.lines.filter((line) => line === "left").length;
    const received = new Received();
    const exchange = await useHttp3Client(url)(post(), received);
    await within(waitMs, "the head", received.head.promise);
    exchange.reset("canceled");
    await server.printed(/^left$/, left + 1);
  });
});

it("quic-go's server drains while our call runs, which ends in order", async () => {
  const own = useProgram(program("greetserver"), ["-cert", files.cert, "-key", files.key]);
  const [, ownUrl = ""] = await own.printed(/^listening on (\S+)$/);
  const client = createSluiceClient({ url: ownUrl, ca: tlsFiles.ca, httpVersion: "3" });
  onTestFinished(() => client.close());
  const answered = deferred();
  const finish = deferred();
  async function* requests(): AsyncGenerator<{ name: string }> {
    yield { name: "Ada" };
    await finish.promise;
    yield { name: "Grace" };
  }
  const greetings: string[] = [];
  const running = (async () => {
    for await (const { greeting } of client.greet.greetEach(requests())) {
      greetings.push(greeting);
      answered.resolve();
    }
  })();
  await within(waitMs, "the first answer", answered.promise);
  own.end();
  await until(waitMs, "the refusal of new calls", async () => {
    const late = await client.greet.greet({ name: "late" }, { timeoutMs: 1000 }).catch((reason: unknown) => reason);
    return late instanceof ConnectError;
  });
  finish.resolve();
  await within(waitMs, "the end of the call", running);
  expect(greetings).toEqual(["Hello, Ada!", "Hello, Grace!"]);
  expect(await within(waitMs, "the end of the server", own.done)).toBe(0);
});
