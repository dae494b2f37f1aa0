import { expect, it } from "vitest";
import type { HttpExchange } from "../../src/runtime/exchange.ts";
import { until, within } from "../support/deadline.ts";
import { put, Received, useHttp3, useHttp3Client } from "../support/http3.ts";

const streams = 20;
const each = 128 * 1024;
/** The engine holds up to 256 KiB of a stream, which come at once. */
const most = 64 * 1024 + 256 * 1024;

it("lets handlers, timers and sockets have their turn before it hands out what waits on other streams", async () => {
  const accepted: HttpExchange[] = [];
  const { listener, url } = await useHttp3((exchange) => {
    accepted.push(exchange);
  });
  const open = useHttp3Client(url);
  const answers: Received[] = [];
  for (let i = 0; i < streams; i++) {
    const received = new Received();
    answers.push(received);
    const request = await open({ method: "POST", url: `${url}/`, header: new Headers() }, received);
    await within(5000, "room", put(request, received, new Uint8Array(each)));
    request.end();
  }
  await until(10_000, "all bodies", () => listener.counters.bytesHeld >= streams * each);

  let bytes = 0;
  let sinceTurn = 0;
  let highest = 0;
  for (const exchange of accepted) {
    exchange.receive({
      onChunk(chunk) {
        bytes += chunk.byteLength;
        sinceTurn += chunk.byteLength;
        highest = Math.max(highest, sinceTurn);
        // As soon as everything else in the process has had its turn.
        setImmediate(() => (sinceTurn = 0));
      },
      onEnd() {
        exchange.sendHead(200, new Headers());
        exchange.end();
      },
    });
  }
  await within(10_000, "the answers", Promise.all(answers.map(({ end }) => end.promise)));
  expect(bytes).toBe(streams * each);
  expect(highest).toBeLessThanOrEqual(most);
});
