import { create, toBinary } from "@bufbuild/protobuf";
import { constants } from "node:http2";
import { describe, expect, it, onTestFinished } from "vitest";
import { GreetAllRequestSchema, GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { resolveConfig } from "../../src/config.ts";
import type { Config } from "../../src/config.ts";
import { listen } from "../../src/listen/listen.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import type { CallRecord } from "../../src/runtime/running-calls.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { deferred, until, within } from "../support/deadline.ts";
import { envelopeOf } from "../support/envelopes.ts";
import { post, useSession } from "../support/raw.ts";

const KiB = 1024;

interface Served {
  readonly url: string;
  /** Resolves with the first call's record once it is over. */
  readonly ended: Promise<CallRecord>;
  /** Messages that the handler has been asked for. */
  readonly yielded: () => number;
  /** Lets the handlers that never read go. */
  readonly release: () => void;
  readonly config: Config;
}

/** Greets without end, and takes names that it never looks at. */
async function serve(given: Partial<Config>, greetingBytes = 1): Promise<Served> {
  const config = resolveConfig({ port: 0, ...given });
  const ended = deferred<CallRecord>();
  const released = deferred();
  let yielded = 0;
  const greeting = "x".repeat(greetingBytes);
  const runtime = createRuntime({
    ...config,
    interceptors: [],
    routes(router) {
      router.service(GreetService, {
        async greetAll(requests) {
          // One message, so that reading has begun.
          await requests[Symbol.asyncIterator]().next();
          await released.promise;
          return { greeting: "" };
        },
        async *greetRepeatedly() {
          for (;;) {
            yielded++;
            yield { greeting };
          }
        },
      });
    },
    onCallEnd: ended.resolve,
  });
  const listener = await listen(nodeHandlers(runtime.serve), { ...config, tls: undefined });
  onTestFinished(async () => {
    released.resolve();
    await listener.close();
  });
  return { url: listener.url, ended: ended.promise, yielded: () => yielded, release: released.resolve, config };
}

/** Resolves once the number has stayed the same for a while: there is no event for what does not happen. */
async function settled(what: string, read: () => number): Promise<number> {
  let last = -1;
  let since = Date.now();
  await until(20_000, what, () => {
    const now = read();
    if (now !== last) since = Date.now();
    last = now;
    return now > 0 && Date.now() - since > 400;
  });
  return last;
}

const windows: readonly (readonly [string, Partial<Config>])[] = [
  ["small", { streamWindow: 64 * KiB, streamBufferBytes: 16 * KiB, connectionWindow: 16 * 1024 * KiB }],
  ["default", {}],
];

describe("a handler that does not read", () => {
  for (const [size, given] of windows) {
    for (const payloadBytes of [0, 100, 20 * KiB]) {
      it(`stops its client: ${size} window and buffer, messages of ${payloadBytes} bytes`, async () => {
        const served = await serve(given);
        const { streamWindow, streamBufferBytes } = served.config;
        const call = post(useSession(served.url), `/${GreetService.typeName}/GreetAll`, {
          "content-type": "application/connect+proto",
        });
        const message = create(GreetAllRequestSchema, { name: "x".repeat(payloadBytes) });
        const envelope = envelopeOf(toBinary(GreetAllRequestSchema, message));
        const batch = Buffer.concat(
          Array.from({ length: Math.ceil((32 * KiB) / envelope.byteLength) }, () => envelope),
        );
        const total = 16 * 1024 * KiB;
        let written = 0;
        const write = (): void => {
          while (written < total) {
            written += batch.byteLength;
            if (!call.stream.write(batch)) return;
          }
        };
        call.stream.on("drain", write);
        write();
        await settled("the client's stop", () => written);
        expect(written).toBeLessThan(total);
        call.stream.close(constants.NGHTTP2_CANCEL);
        const { bytesIn } = await within(10_000, "the end of the call", served.ended);
        // The buffer is looked at after each chunk, and HTTP/2 has frames of 16 KiB.
        const chunk = 16 * KiB;
        expect(bytesIn).toBeGreaterThan(0);
        expect(bytesIn).toBeLessThanOrEqual(streamWindow + streamBufferBytes + envelope.byteLength + chunk);
      });
    }
  }
});

describe("a client that does not read", () => {
  for (const [size, given] of windows) {
    for (const greetingBytes of [1, 100, 20 * KiB, 500 * KiB]) {
      it(`stops the generator: ${size} window and buffer, messages of ${greetingBytes} bytes`, async () => {
        const served = await serve(given, greetingBytes);
        const session = useSession(served.url);
        const call = post(session, `/${GreetService.typeName}/GreetRepeatedly`, {
          "content-type": "application/connect+proto",
        });
        call.stream.end(envelopeOf(new Uint8Array()));
        await call.head;
        call.stream.pause();
        const yielded = await settled("the generator's stop", served.yielded);
        // What the client's window (64 KiB, HTTP/2's own default), its stream and the server's stream hold, what is
        // written at once, and the message that went beyond it.
        const bound = (64 + 64 + 64 + 64) * KiB + 2 * (greetingBytes + 20);
        expect(yielded * greetingBytes).toBeLessThanOrEqual(bound);
        call.stream.resume();
        await until(10_000, "its going on", () => served.yielded() > yielded);
        call.stream.close(constants.NGHTTP2_CANCEL);
        const { code } = await within(10_000, "the end of the call", served.ended);
        expect(code).toBe("canceled");
        const after = await settled("the generator's end", served.yielded);
        expect(served.yielded()).toBe(after);
      });
    }
  }
});
