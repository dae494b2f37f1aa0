import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Transport } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { withDeadline } from "../../src/client/deadline.ts";
import { createStreamTransport } from "../../src/client/stream-transport.ts";
import { ByteSink } from "../../src/wire/byte-sink.ts";
import { allocateUncleared, turns } from "../../src/wire/node-platform.ts";
import { within } from "../support/deadline.ts";

const reset = new ConnectError("the stream was reset", Code.Canceled);

/** Lets the time pass without a turn of the event loop, so that no timer runs. */
function block(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

/** A transport to a server that resets every stream, after a while. */
function resetAfter(ms: number): Transport {
  return {
    unary: withDeadline(
      {
        unary: async () => {
          block(ms);
          throw reset;
        },
      },
      undefined,
    ),
    stream: createStreamTransport({
      baseUrl: "http://127.0.0.1",
      protocol: "grpc",
      useBinaryFormat: true,
      jsonOptions: undefined,
      interceptors: [],
      acceptCompression: [],
      sendCompression: null,
      compressMinBytes: 0,
      readMaxBytes: 1024,
      streamBufferBytes: 1024,
      defaultTimeoutMs: undefined,
      open: () => {
        block(ms);
        return Promise.reject(reset);
      },
      sink: new ByteSink(allocateUncleared),
      turns,
      allocate: allocateUncleared,
    }),
  };
}

async function codes(resetMs: number, timeoutMs: number): Promise<Code[]> {
  const client = createClient(GreetService, resetAfter(resetMs));
  const calls = [
    client.greet({}, { timeoutMs }),
    client.greetAll((async function* () {})(), { timeoutMs }),
    Array.fromAsync(client.greetRepeatedly({}, { timeoutMs })),
  ];
  const results = await within(10_000, "the failures", Promise.allSettled(calls));
  return results.map((result) => (result.status === "rejected" ? ConnectError.from(result.reason).code : Code.Unknown));
}

// The server's reset at the deadline was "canceled" if it was read before the client's own timer had run.
it("a stream that the server resets when the deadline has come has met its deadline", async () => {
  expect(await codes(21, 20)).toEqual([Code.DeadlineExceeded, Code.DeadlineExceeded, Code.DeadlineExceeded]);
});

it("a stream that the server resets before that is canceled", async () => {
  expect(await codes(0, 60_000)).toEqual([Code.Canceled, Code.Canceled, Code.Canceled]);
});
