import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it, onTestFinished } from "vitest";
import { GreetAllRequestSchema, GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { resolveConfig } from "../../src/config.ts";
import type { Config } from "../../src/config.ts";
import { Http3Engine, h3Codes } from "../../src/http3/engine.ts";
import type { Http3Stream } from "../../src/http3/engine.ts";
import type { Http3Listener } from "../../src/http3/listener.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import { deferred, until, within } from "../support/deadline.ts";
import { envelopeOf } from "../support/envelopes.ts";
import { tlsFiles, useHttp3, windows } from "../support/http3.ts";

const KiB = 1024;

interface Served {
  readonly listener: Http3Listener;
  readonly url: string;
  /** Resolves once the handler is where it waits. */
  readonly waiting: Promise<void>;
  /** Resolves with the abort's reason once the handler's `finally` has run. */
  readonly left: Promise<unknown>;
  readonly yielded: () => number;
}

/** What a handler may be waiting for when its peer goes away. */
const places = {
  GreetEach: "the next message",
  GreetAll: "its signal, while more is unread than fits",
  GreetRepeatedly: "room to write",
} as const;

async function serve(config: Partial<Config> = {}): Promise<Served> {
  const waiting = deferred();
  const left = deferred<unknown>();
  let yielded = 0;
  const runtime = createRuntime({
    ...resolveConfig({ ...config }),
    interceptors: [],
    routes(router) {
      router.service(GreetService, {
        async *greetEach(requests, { signal }) {
          try {
            for await (const _ of requests) {
              waiting.resolve();
              yield { greeting: "" };
            }
          } finally {
            left.resolve(signal.reason);
          }
        },
        async greetAll(_, { signal }) {
          try {
            waiting.resolve();
            await new Promise((resolve) => {
              signal.addEventListener("abort", resolve);
            });
            return { greeting: "" };
          } finally {
            left.resolve(signal.reason);
          }
        },
        async *greetRepeatedly(_, { signal }) {
          const greeting = "x".repeat(16 * KiB);
          try {
            for (;;) {
              yielded++;
              if (yielded === 8) waiting.resolve();
              yield { greeting };
            }
          } finally {
            left.resolve(signal.reason);
          }
        },
      });
    },
  });
  const { listener, url } = await useHttp3(runtime.serve, config);
  return { listener, url, waiting: waiting.promise, left: left.promise, yielded: () => yielded };
}

/** Requests of a client that does with its streams what it likes. */
async function useRaw(url: string): Promise<{ call: (method: string) => Http3Stream; engine: Http3Engine }> {
  const opened = deferred();
  const engine = new Http3Engine({
    onConnectionOpened: () => {
      opened.resolve();
    },
  });
  engine.native.trust(Buffer.from(tlsFiles.ca), undefined, {
    streams: 0,
    ...windows,
    sendWindow: windows.connectionWindow,
    idleTimeoutMs: 10_000,
    keepaliveMs: 5000,
    headerBytes: 64 * KiB,
    answerTimeoutMs: 60_000,
    headerTimeoutMs: 10_000,
  });
  const connection = engine.native.connect(["127.0.0.1"], Number(new URL(url).port), "127.0.0.1");
  onTestFinished(() => {
    engine.native.closeConnection(connection);
  });
  await within(10_000, "the connection", opened.promise);
  const ignore = (): void => undefined;
  const listener = { onHead: ignore, onLent: ignore, onEnd: ignore, onDrain: ignore, onFinished: ignore };
  return {
    engine,
    call: (method) =>
      engine.request(
        connection,
        "POST",
        `${url}/${GreetService.typeName}/${method}`,
        new Headers({ "content-type": "application/connect+proto" }),
        { ...listener, onBroken: ignore },
      ),
  };
}

const message = (bytes: number): Buffer =>
  envelopeOf(toBinary(GreetAllRequestSchema, create(GreetAllRequestSchema, { name: "x".repeat(bytes) })));

describe("a handler whose peer goes away runs its finally at once", () => {
  for (const [method, place] of Object.entries(places)) {
    for (const [how, go] of [
      ["resets the stream", (stream: Http3Stream) => stream.reset(h3Codes.requestCancelled)],
      ["only asks to stop sending", (stream: Http3Stream) => stream.stopReading(h3Codes.requestCancelled)],
    ] as const) {
      it(`${how}, and it waits for ${place}`, async () => {
        const served = await serve();
        const { call } = await useRaw(served.url);
        const stream = call(method);
        stream.write([method === "GreetRepeatedly" ? envelopeOf(new Uint8Array()) : message(10)]);
        if (method === "GreetAll") for (let i = 0; i < 64; i++) stream.write([message(64 * KiB)]);
        if (method === "GreetRepeatedly") {
          stream.finish();
          stream.pause();
        }
        await within(10_000, "the handler's wait", served.waiting);
        if (method === "GreetAll") {
          const held = (): number => served.listener.counters.bytesHeld;
          await until(10_000, "as much as is held", () => held() >= 256 * KiB);
        }
        go(stream);
        expect(String(await within(5000, "finally", served.left))).toMatch(/canceled/);
        await until(5000, "the stream's end", () => served.listener.counters.streams === 0);
        await until(5000, "its memory's", () => served.listener.counters.bytesHeld === 0);
        expect(served.listener.counters).toMatchObject({ connections: 1, panics: 0 });
      });
    }
  }
});

describe("a slow side bounds the other", () => {
  it("a client that does not read stops the generator", async () => {
    const served = await serve();
    const { call } = await useRaw(served.url);
    const stream = call("GreetRepeatedly");
    stream.pause();
    stream.write([envelopeOf(new Uint8Array())]);
    stream.finish();
    await within(10_000, "the first messages", served.waiting);
    let before = -1;
    await until(20_000, "the stop", async () => {
      const same = served.yielded() === before;
      before = served.yielded();
      await new Promise((resolve) => setTimeout(resolve, 400));
      return same;
    });
    // What waits for the transport with one write more, and as much that is being handed over.
    const held = 2 * (256 + 64 + 16) * KiB;
    // Besides it the stream's window, what the client's engine holds, and what is written at once.
    const bound = windows.streamWindow + held + 256 * KiB + 4 * 64 * KiB;
    expect(before * 16 * KiB).toBeLessThan(bound);
    expect(served.listener.counters.bytesHeld).toBeLessThan(held);
    stream.resume();
    await until(10_000, "its going on", () => served.yielded() > before);
    stream.reset(h3Codes.requestCancelled);
    await within(5000, "finally", served.left);
  });

  it("a handler that does not read stops its client", async () => {
    const config = { streamWindow: 64 * KiB, streamBufferBytes: 16 * KiB };
    const served = await serve(config);
    const { call, engine } = await useRaw(served.url);
    const stream = call("GreetAll");
    const block = message(16 * KiB);
    let written = 0;
    while (written < 16 * 1024 * KiB && stream.write([block])) {
      written += block.byteLength;
      await new Promise((resolve) => setImmediate(resolve));
    }
    // What the windows, both engines and the runtime hold: the rest waits at the client.
    expect(written).toBeLessThan(1024 * KiB);
    await within(10_000, "the handler", served.waiting);
    expect(served.listener.counters.bytesHeld).toBeLessThan(512 * KiB);
    expect(engine.counters.bytesHeld).toBeLessThan(512 * KiB);
    stream.reset(h3Codes.requestCancelled);
    await within(5000, "finally", served.left);
  });
});
