import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Client, HandlerContext } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { GreetRequestSchema, GreetResponseSchema, GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { sleep } from "../../src/async/signals.ts";
import { resolveConfig } from "../../src/config.ts";
import { listenHttp3 } from "../../src/http3/listener.ts";
import { createDevCertificates } from "../../src/listen/dev-certificate.ts";
import { listen } from "../../src/listen/listen.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { deferred, within } from "../support/deadline.ts";
import { createTransport, http3Lanes, laneName, lanes } from "../support/transports.ts";
import type { Lane } from "../support/transports.ts";

const bytes = new Uint8Array([0, 1, 127, 128, 255]);

/** A call whose handler waits. */
class Wait {
  readonly #begun = deferred();
  readonly #ended = deferred<string>();
  /** Whether the handler has been reached. */
  begun = false;

  begin(): void {
    this.begun = true;
    this.#begun.resolve();
  }

  end(how: string): void {
    this.#ended.resolve(how);
  }

  /** Resolves once the handler waits. */
  reached(): Promise<void> {
    return within(10_000, "the handler's wait", this.#begun.promise);
  }

  /** Resolves with how the handler ended. */
  ended(): Promise<string> {
    return within(5000, "the handler's finally", this.#ended.promise);
  }
}

/** By name. */
const waiting = new Map<string, Wait>();

function expectWait(name: string): Wait {
  const wait = new Wait();
  waiting.set(name, wait);
  return wait;
}

/** Echoes metadata; the name says what else to do. */
function greet(name: string, context: HandlerContext): void {
  const ascii = context.requestHeader.get("x-ascii");
  if (ascii !== null) {
    context.responseHeader.set("x-ascii", ascii);
    context.responseTrailer.set("x-ascii-trailer", ascii);
  }
  const binary = context.requestHeader.get("x-data-bin");
  if (binary !== null) {
    context.responseHeader.set("x-data-bin", binary);
    context.responseTrailer.set("x-trailer-bin", binary);
  }
  if (name === "fail") {
    throw new ConnectError("no such guest", Code.NotFound, { "x-error-meta": "m" }, [
      { desc: GreetRequestSchema, value: { name: "detail é" } },
    ]);
  }
}

async function wait(name: string, context: HandlerContext): Promise<never> {
  waiting.get(name)?.begin();
  try {
    await sleep(3_600_000, context.signal);
    throw new Error("nobody ended the wait");
  } finally {
    waiting.get(name)?.end(context.signal.aborted ? "aborted" : "not aborted");
  }
}

const names = { fail: "fail", slow: "slow" };

const tlsFiles = await createDevCertificates({ hosts: ["127.0.0.1"], days: 2 });

interface Serving {
  readonly url: string;
  readonly close: () => Promise<void>;
  readonly idle: () => Promise<void>;
}

async function serve({ httpVersion, tls }: Lane): Promise<Serving> {
  const config = resolveConfig({ port: 0 });
  const runtime = createRuntime({
    ...config,
    interceptors: [],
    routes(router) {
      router.service(GreetService, {
        async greet({ name }, context) {
          greet(name, context);
          if (name.startsWith(names.slow)) await wait(name, context);
          return { greeting: name };
        },
        async greetAll(requests, context) {
          greet("", context);
          const all: string[] = [];
          for await (const { name } of requests) {
            greet(name, context);
            if (name.startsWith(names.slow)) await wait(name, context);
            all.push(name);
          }
          return { greeting: all.join("+") };
        },
        async *greetRepeatedly({ name, times }, context) {
          greet("", context);
          for (let i = 0; i < times; i++) yield { greeting: `${name} ${i}` };
          greet(name, context);
          if (name.startsWith(names.slow)) await wait(name, context);
        },
        async *greetEach(requests, context) {
          greet("", context);
          for await (const { name } of requests) {
            greet(name, context);
            if (name.startsWith(names.slow)) await wait(name, context);
            yield create(GreetResponseSchema, { greeting: name }) as never;
          }
        },
      });
    },
  });
  const idle = (): Promise<void> => runtime.idle();
  if (httpVersion === "3") {
    const listener = await listenHttp3(runtime.serve, { ...config, tls: tlsFiles });
    return { url: `https://127.0.0.1:${listener.port}`, close: () => listener.close(), idle };
  }
  const listener = await listen(nodeHandlers(runtime.serve), { ...config, tls: tls ? tlsFiles : undefined });
  return { url: listener.url, close: () => listener.close(), idle };
}

async function* stream<T>(...items: T[]): AsyncGenerator<T> {
  for (const item of items) yield await Promise.resolve(item);
}

async function failure(call: Promise<unknown>): Promise<ConnectError> {
  const error: unknown = await within(
    10_000,
    "the call's failure",
    call.then(
      () => undefined,
      (reason: unknown) => reason,
    ),
  );
  expect(error).toBeInstanceOf(ConnectError);
  return error as ConnectError;
}

for (const lane of [...lanes, ...http3Lanes]) {
  describe(laneName(lane), () => {
    let server: Serving;
    let client: Client<typeof GreetService>;
    let closeTransport: () => void;

    beforeAll(async () => {
      server = await serve(lane);
      const made = createTransport(lane, server.url, lane.tls ? { ca: tlsFiles.ca } : {});
      client = createClient(GreetService, made.transport);
      closeTransport = made.close;
    });
    afterAll(async () => {
      closeTransport();
      await server.close();
      await within(5000, "the end of every call", server.idle());
    });

    /** Calls each shape with the names, and gives the greetings. */
    const shapes: Record<string, (name: string, options?: object) => Promise<string[]>> = {
      unary: async (name, options) => [(await client.greet({ name }, options)).greeting],
      client: async (name, options) => [(await client.greetAll(stream({ name: "first" }, { name }), options)).greeting],
      server: async (name, options) => {
        const greetings: string[] = [];
        for await (const { greeting } of client.greetRepeatedly({ name, times: 2 }, options)) greetings.push(greeting);
        return greetings;
      },
      // Half duplex on HTTP/1.1: the whole request goes first.
      bidi: async (name, options) => {
        const greetings: string[] = [];
        for await (const { greeting } of client.greetEach(stream({ name: "first" }, { name }), options)) {
          greetings.push(greeting);
        }
        return greetings;
      },
    };

    const expected: Record<string, string[]> = {
      unary: ["Ada"],
      client: ["first+Ada"],
      server: ["Ada 0", "Ada 1"],
      bidi: ["first", "Ada"],
    };

    for (const [shape, call] of Object.entries(shapes)) {
      it(`${shape}: messages, headers and trailers, ASCII and binary`, async () => {
        let header = new Headers();
        let trailer = new Headers();
        const greetings = await within(
          10_000,
          "the answer",
          call("Ada", {
            headers: { "x-ascii": "a b,c", "x-data-bin": Buffer.from(bytes).toString("base64") },
            onHeader: (h: Headers) => (header = h),
            onTrailer: (t: Headers) => (trailer = t),
          }),
        );
        expect(greetings).toEqual(expected[shape]);
        expect(header.get("x-ascii")).toBe("a b,c");
        expect(trailer.get("x-ascii-trailer")).toBe("a b,c");
        expect(Buffer.from(header.get("x-data-bin") ?? "", "base64")).toEqual(Buffer.from(bytes));
        expect(Buffer.from(trailer.get("x-trailer-bin") ?? "", "base64")).toEqual(Buffer.from(bytes));
      });

      it(`${shape}: an error, in mid-stream where there is one, with its details and metadata`, async () => {
        const error = await failure(call(names.fail));
        expect(error.code).toBe(Code.NotFound);
        expect(error.rawMessage).toBe("no such guest");
        expect(error.metadata.get("x-error-meta")).toBe("m");
        expect(error.findDetails(GreetRequestSchema)).toEqual([expect.objectContaining({ name: "detail é" })]);
      });

      it(`${shape}: a deadline ends the call on both sides`, async () => {
        // On a busy machine a short one may be over before the call has reached its handler.
        for (let timeoutMs = 200, begun = false; !begun; timeoutMs *= 2) {
          const name = `${names.slow} deadline ${timeoutMs} ${shape}`;
          const wait = expectWait(name);
          const error = await failure(call(name, { timeoutMs }));
          expect(error.code).toBe(Code.DeadlineExceeded);
          ({ begun } = wait);
          if (begun) expect(await wait.ended()).toBe("aborted");
        }
      });

      it(`${shape}: a client that cancels ends the handler at once`, async () => {
        const name = `${names.slow} cancel ${shape}`;
        const wait = expectWait(name);
        const controller = new AbortController();
        const failed = failure(call(name, { signal: controller.signal }));
        await wait.reached();
        controller.abort();
        expect((await failed).code).toBe(Code.Canceled);
        expect(await wait.ended()).toBe("aborted");
      });
    }

    if (lane.httpVersion !== "1.1") {
      it("bidi: answers each message before the next is sent", async () => {
        const names = ["Ada", "Grace", "Edsger"];
        const answered = names.map(() => deferred());
        async function* requests(): AsyncGenerator<{ name: string }> {
          for (const [i, name] of names.entries()) {
            yield { name };
            await within(5000, `the answer to ${name}`, answered[i]?.promise ?? Promise.resolve());
          }
        }
        const greetings: string[] = [];
        for await (const { greeting } of client.greetEach(requests())) {
          answered[greetings.length]?.resolve();
          greetings.push(greeting);
        }
        expect(greetings).toEqual(names);
      });
    }
  });
}
