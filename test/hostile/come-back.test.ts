import { ConnectError } from "@connectrpc/connect";
import { describe, expect, it, onTestFinished } from "vitest";
import { createSluiceClient } from "../../src/client/index.ts";
import { isBroken } from "../../src/client/retry.ts";
import type { Server } from "../../src/compose.ts";
import { until, within } from "../support/deadline.ts";
import { tlsFiles } from "../support/http3.ts";
import { doors, enter, useCrowd } from "./peers.ts";
import type { Door } from "./peers.ts";

function useClient(door: Door, server: Server) {
  const httpVersion = ({ http1: "1.1", http1s: "1.1", http2: "2", http2s: "2", http3: "3" } as const)[door];
  const url = door === "http3" ? `https://127.0.0.1:${server.http3Port ?? 0}` : server.url;
  const client = createSluiceClient({ url, token: "sample", httpVersion, ca: tlsFiles.ca });
  onTestFinished(() => client.close());
  return client;
}

for (const door of doors) {
  describe(`our own client over ${door}`, () => {
    it("comes back when its connection had to make room", async () => {
      const { server, enter: come, metric } = await useCrowd(door, { maxConnections: 2 });
      const client = useClient(door, server);
      for (let round = 0; round < 3; round++) {
        const { greeting } = await within(10_000, "an answer", client.greet.greet({ name: String(round) }));
        expect(greeting).toBe(`Hello, ${round}!`);
        for (let i = 0; i < 2; i++) expect(await (await come()).call()).toBe(200);
        expect(await metric('sluice_connections_closed_total{reason="evicted"}')).toBeGreaterThan(round);
      }
    });

    it("takes a refusal for something that a second attempt may change, and is let in later", async () => {
      const { server, enter: come } = await useCrowd(door, { maxConnections: 1 });
      const busy = await come();
      const call = await busy.hold();
      const client = useClient(door, server);
      const refusal = await within(
        10_000,
        "the refusal",
        client.greet.greet({ name: "Ada" }).then(
          () => undefined,
          (error: unknown) => ConnectError.from(error),
        ),
      );
      expect(refusal !== undefined && isBroken(refusal)).toBe(true);
      call.end();
      await until(10_000, "an answer", () =>
        client.greet.greet({ name: "Ada" }).then(
          () => true,
          () => false,
        ),
      );
    });
  });
}

it("a connection that has had a call is not closed for being idle, however long that is", async () => {
  const { server, metric } = await useCrowd("http2", { maxConnections: 10, connectionIdleTimeout: 100 });
  const peer = await enter("http2", server);
  expect(await peer.call()).toBe(200);
  const strangers = await Promise.all(Array.from({ length: 4 }, () => enter("http2", server)));
  for (const { closed } of strangers) await within(10_000, "the end of a stranger", closed);
  expect(await peer.call()).toBe(200);
  expect(await metric('sluice_connections_closed_total{reason="idle"}')).toBe(4);
});
