import { Code, ConnectError } from "@connectrpc/connect";
import type { Interceptor } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import fc from "fast-check";
import { once } from "node:events";
import { createServer as createHttp1Server } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import type { AddressInfo } from "node:net";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { resolveConfig } from "../../src/config.ts";
import { listen } from "../../src/listen/listen.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import type { Runtime } from "../../src/runtime/handler.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { until, within } from "../support/deadline.ts";
import { envelopesOf } from "../support/envelopes.ts";
import { createRawClient } from "../support/raw-call.ts";
import type { RawAnswer, RawClient } from "../support/raw-call.ts";
import { Scripts, hangs, maxMessageBytes, rawCallOf, refusedAtOnce, scriptOf, textOf } from "./script.ts";
import type { Manner, Script, Seen } from "./script.ts";

// The same scripts, served by the runtime and by Connect's own adapter, come to the same on the wire and in
// the handler. What is meant to differ, and is left out of the comparison or made the same:
//
// - `x-accel-buffering`: the runtime asks proxies not to hold messages back. `date` is the time.
// - Bidi over HTTP/1.1: Connect refuses it, the runtime serves it in half duplex. Connect's adapter is told that
//   the request came over HTTP/2, so that there is something to compare with.
// - When headers leave: the runtime does not wait for the first message. A handler that sets some later says so.
// - Headers that say that the request cannot be understood: Connect calls the handler first. See `refusedAtOnce`.
// - A request message with the flag that ends responses: Connect drops it silently, the runtime refuses it, so that
//   nothing is lost that the client takes for sent.
// - A message that is too large: the runtime hands on what came before it. Whether Connect does depends on how the
//   body was cut; here it is the first message.
// - A body that ends within an envelope's prefix, or right after it: the runtime fails, Connect takes it for the end.
//   Here it ends within the payload.
// - A message that cannot be read: to Connect most of them are INTERNAL, to the runtime they are the client's fault.
//   Connect's adapter gets an interceptor that says so too.
// - The end of a Connect stream and of a gRPC-Web one: Connect compresses it like a message, the runtime never does.

const compressMinBytes = 1024;
const httpVersions = ["1.1", "2"] as const;

const manners = (["client", "server", "bidi"] as const).flatMap((shape) =>
  (["connect", "grpc", "grpc-web"] as const).flatMap((protocol) =>
    [false, true].flatMap((json) => [false, true].map((gzip): Manner => ({ shape, protocol, json, gzip }))),
  ),
);

interface Target {
  readonly name: string;
  readonly close: () => Promise<unknown>;
  readonly clients: Readonly<Record<"1.1" | "2", RawClient>>;
}

const scripts = new Scripts();
let runtime: Runtime;
let ours: Target;
let connects: Target;

async function serveOurs(): Promise<Target> {
  const listener = await listen(nodeHandlers(runtime.serve), { ...resolveConfig({ port: 0 }), tls: undefined });
  const clients = { "1.1": createRawClient(listener.url, "1.1"), "2": createRawClient(listener.url, "2") };
  return { name: "Sluice", close: () => listener.close(), clients };
}

async function serveConnects(adapter: ReturnType<typeof connectNodeAdapter>): Promise<Target> {
  const http1 = createHttp1Server((req, res) => {
    Object.defineProperty(req, "httpVersion", { value: "2.0" });
    adapter(req, res);
  });
  const http2 = createHttp2Server(adapter);
  const urls = await Promise.all(
    [http1, http2].map(async (server) => {
      await once(server.listen(0, "127.0.0.1"), "listening");
      return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    }),
  );
  const [url1 = "", url2 = ""] = urls;
  return {
    name: "Connect",
    close: () => Promise.all([http1, http2].map((server) => promisify(server.close.bind(server))())),
    clients: { "1.1": createRawClient(url1, "1.1"), "2": createRawClient(url2, "2") },
  };
}

/** Errors of reading the request, which Connect's parser calls INTERNAL. */
const blameTheClient: Interceptor = (next) => (req) => {
  if (!req.stream) return next(req);
  async function* blamed<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
    try {
      yield* messages;
    } catch (error) {
      const { code, rawMessage } = ConnectError.from(error);
      if (code !== Code.Internal || /do not know how to decompress/.test(rawMessage)) throw error;
      throw new ConnectError(rawMessage, Code.InvalidArgument);
    }
  }
  return next({ ...req, message: blamed(req.message) });
};

beforeAll(async () => {
  const config = { ...resolveConfig({ compressStreams: true }), maxMessageBytes, compressMinBytes };
  runtime = createRuntime({ ...config, interceptors: [], routes: scripts.routes });
  ours = await serveOurs();
  const adapter = connectNodeAdapter({
    routes: scripts.routes,
    readMaxBytes: maxMessageBytes,
    compressMinBytes,
    interceptors: [blameTheClient],
  });
  connects = await serveConnects(adapter);
});

afterAll(async () => {
  for (const { clients, close } of [ours, connects]) {
    for (const client of Object.values(clients)) client.close();
    await close();
  }
});

/** What both servers must agree on. */
interface Outcome {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly trailers: Record<string, unknown>;
  /** Flags and text; that of an end is parsed. */
  readonly messages: readonly unknown[];
  readonly complete: boolean;
  readonly names: readonly string[];
  readonly error: string | undefined;
}

const endFlag = { connect: 0x02, grpc: undefined, "grpc-web": 0x80 } as const;

function messagesOf({ protocol }: Manner, body: Buffer): unknown[] {
  const { envelopes, rest } = envelopesOf(body);
  expect(rest).toBe(0);
  return envelopes.map(({ flags, payload }) => {
    const plain = (flags & 1) === 1 ? gunzipSync(payload) : payload;
    const end = endFlag[protocol];
    if (end === undefined || (flags & end) === 0) return { flags, payload: plain.toString("latin1") };
    const text = plain.toString();
    return protocol === "connect" ? { end: JSON.parse(text) as unknown } : { end: text.split("\r\n").sort() };
  });
}

function outcomeOf(manner: Manner, { status, headers, trailers, body, complete }: RawAnswer, seen: Seen): Outcome {
  const { date: _date, "x-accel-buffering": _buffering, ...rest } = headers;
  return {
    status,
    headers: { ...rest },
    trailers: { ...trailers },
    messages: messagesOf(manner, body),
    complete,
    names: seen.names,
    error: seen.error,
  };
}

async function perform(
  target: Target,
  manner: Manner,
  httpVersion: "1.1" | "2",
  script: Script,
  resetAfter?: number,
): Promise<{ answer: RawAnswer; seen: Seen }> {
  const { id, seen } = scripts.add(script);
  const call = rawCallOf(manner, script, id);
  const answered = target.clients[httpVersion].call(resetAfter === undefined ? call : { ...call, resetAfter });
  const answer = await within(8_000, `${target.name}'s answer over HTTP/${httpVersion}`, answered);
  return { answer, seen };
}

function nameOf({ shape, protocol, json, gzip }: Manner): string {
  return `${shape}, ${protocol}, ${json ? "JSON" : "binary"}, ${gzip ? "gzip" : "identity"}`;
}

describe("a streaming call comes to the same as with Connect's own adapter", () => {
  for (const manner of manners) {
    it(nameOf(manner), { timeout: 300_000 }, async () => {
      await fc.assert(
        fc.asyncProperty(fc.constantFrom(...httpVersions), scriptOf(manner.shape), async (httpVersion, script) => {
          // Two at once on the runtime, because its calls share the memory that they write.
          const [expected, ...actual] = await Promise.all(
            [connects, ours, ours].map((target) => perform(target, manner, httpVersion, script)),
          );
          if (expected === undefined) throw new Error("there is no outcome");
          for (const { answer, seen } of actual) {
            if (refusedAtOnce(script)) expect(seen.error).toBeUndefined();
            if (refusedAtOnce(script) || hangs(script)) seen.error = expected.seen.error;
            expect(outcomeOf(manner, answer, seen)).toEqual(outcomeOf(manner, expected.answer, expected.seen));
          }
        }),
        {
          numRuns: Number(process.env["SLUICE_TEST_PARITY_RUNS"] ?? 20),
          // A slow machine makes fewer of them.
          interruptAfterTimeLimit: 60_000,
          // Each attempt to make a call that hangs smaller takes as long as its deadline.
          endOnFailure: true,
        },
      );
    });
  }
});

describe("a call that its client cuts", () => {
  for (const shape of ["client", "server", "bidi"] as const) {
    it(`leaves no handler and no call behind: ${shape}`, { timeout: 300_000 }, async () => {
      const cutAt = fc.nat(100_000);
      await fc.assert(
        fc.asyncProperty(fc.constantFrom(...httpVersions), scriptOf(shape), cutAt, async (httpVersion, script, at) => {
          const manner: Manner = { shape, protocol: "connect", json: false, gzip: false };
          const { answer } = await perform(ours, manner, httpVersion, script, at);
          // What arrived before the cut is what was sent.
          const sizes = script.steps.flatMap((step) => (step.do === "send" ? [step.size] : []));
          if (shape !== "client") {
            const whole = envelopesOf(answer.body).envelopes.filter(({ flags }) => flags === 0);
            expect(whole.length).toBeLessThanOrEqual(sizes.length);
            for (const [i, { payload }] of whole.entries()) {
              expect(payload.toString().endsWith(textOf(sizes[i] ?? 0))).toBe(true);
            }
          }
          await until(10_000, "the end of the call", () => runtime.activeCalls === 0);
          await until(10_000, "the end of the handler", () => scripts.running === 0);
        }),
        { numRuns: 60, interruptAfterTimeLimit: 60_000, endOnFailure: true },
      );
    });
  }
});
