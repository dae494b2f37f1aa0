import { describe, expect, it } from "vitest";
import type { Appender, SluiceClient } from "../../src/client/index.ts";
import { nowhere, useProxy } from "../support/cutting-proxy.ts";
import { reasonOf } from "../support/data-errors.ts";
import { within } from "../support/deadline.ts";
import { useServer } from "../support/server.ts";
import { clientLanes, storedTexts, useSluiceClient } from "../support/sluice-client.ts";

for (const lane of clientLanes) {
  describe(`what the server refuses, over ${lane.protocol} on HTTP/${lane.httpVersion}`, () => {
    it("is final: it is not tried again", async () => {
      const { url } = await useServer();
      const client = useSluiceClient(url, lane);
      await client.data.createStream("sealed");
      await client.data.sealStream("sealed");
      await client.data.append("s", [{ data: "a" }], { createIfMissing: true });
      const retries: string[] = [];
      const onRetry = (error: Error): void => void retries.push(error.message);
      const append = ({ data }: SluiceClient, name: string, options = {}): Promise<unknown> =>
        data.appender(name, { onRetry, ...options }).append([{ data: "b" }]);
      const read = ({ data }: SluiceClient, name: string, seq = 0): Promise<unknown> =>
        data.read(name, { from: { seq }, onRetry }).next();
      const upload = ({ data }: SluiceClient, name: string): Promise<unknown> =>
        data.upload(name, () => one(), { onRetry });
      const stranger = useSluiceClient(url, { ...lane, token: "wrong" });
      for (const [work, reason] of [
        [() => append(client, "absent"), "STREAM_NOT_FOUND"],
        [() => append(client, "sealed"), "STREAM_SEALED"],
        [() => append(client, "s", { expectedSeq: 7 }), "SEQ_MISMATCH"],
        [() => append(client, "Not A Name"), "UNSPECIFIED"],
        [() => append(stranger, "s"), "UNSPECIFIED"],
        [() => read(client, "absent"), "STREAM_NOT_FOUND"],
        [() => read(client, "s", 9), "POSITION_OUT_OF_RANGE"],
        [() => read(stranger, "s"), "UNSPECIFIED"],
        [() => upload(client, "absent"), "STREAM_NOT_FOUND"],
        [() => upload(client, "sealed"), "STREAM_SEALED"],
      ] as const) {
        expect(await reasonOf(work())).toBe(reason);
      }
      expect(retries).toEqual([]);
    });
  });
}

async function* one(): AsyncGenerator<{ data: string }> {
  yield await Promise.resolve({ data: "b" });
}

describe("an appender without acks", () => {
  /** Whether it takes another batch now. */
  function hasRoom(appender: Appender): Promise<boolean> {
    const now = new Promise<false>((resolve) => setImmediate(resolve, false));
    return Promise.race([appender.ready().then(() => true), now]);
  }

  it.each([
    { limit: "batches", maxInFlightBatches: 5, maxInFlightBytes: 1_000_000, size: 10, fits: 5 },
    { limit: "bytes", maxInFlightBatches: 100, maxInFlightBytes: 5000, size: 1000, fits: 5 },
    { limit: "bytes, by default", size: 1024 * 1024 - 10, fits: 5 },
    { limit: "batches, by default", size: 1, fits: 64 },
  ])("has room for as many $limit as it may have in flight", async ({ size, fits, limit: _, ...options }) => {
    const server = await useServer();
    const proxy = await useProxy(nowhere);
    const client = useSluiceClient(proxy.url, { retry: { attempts: 10_000, maxDelayMs: 20 } });
    const appender = client.data.appender("s", { createIfMissing: true, ...options });
    const acks: Promise<unknown>[] = [];
    while (await hasRoom(appender)) {
      expect(acks.length).toBeLessThan(fits);
      acks.push(appender.append([{ data: "x".repeat(size) }]));
    }
    expect(acks).toHaveLength(fits);
    proxy.retarget(server.url);
    await within(20_000, "room", appender.ready());
    await within(20_000, "the acks", Promise.all(acks));
    await appender.close();
    expect(await storedTexts(useSluiceClient(server.url), "s")).toHaveLength(fits);
  });
});
