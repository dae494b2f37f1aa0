import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { until, within } from "../support/deadline.ts";
import { End, failureOf, streamLanes, useEnds, useStreams, useTlsFiles } from "../support/streams.ts";
import type { StreamServer } from "../support/streams.ts";

useTlsFiles();

const KiB = 1024;
const block = new Uint8Array(64 * KiB);

/** What may be on its way to a peer that does not read: windows, and what each side holds besides. */
const most = 1024 * KiB + 4 * 256 * KiB + 8 * block.byteLength;

/** Writes for as long as the other side takes it. */
function flood(end: End): { readonly written: number } {
  const state = { written: 0 };
  const write = async (): Promise<void> => {
    for (;;) {
      await end.writer.write(block);
      state.written += block.byteLength;
    }
  };
  write().catch(() => undefined);
  return state;
}

/** Waits until the number stays the same while others are served on the same connection. */
async function still(sluice: StreamServer["client"], value: () => number): Promise<void> {
  let before = -1;
  await until(20_000, "the pause", async () => {
    const same = value() > 0 && value() === before;
    before = value();
    for (let i = 0; i < 20; i++) await within(10_000, "an answer", sluice.greet.greet({ name: "Ada" }));
    return same;
  });
}

for (const lane of streamLanes) {
  describe(`limits of a stream over ${lane.name}`, () => {
    it("stop a client whose server does not read, and then a server whose client does not", async () => {
      const { client, server, sluice } = await useEnds(lane);
      for (const [from, to] of [
        [client, server],
        [server, client],
      ] as const) {
        const state = flood(from);
        await still(sluice, () => state.written);
        expect(state.written).toBeLessThan(most);
        let got = 0;
        while (got < 2 * most) {
          const { value } = await within(10_000, "a chunk", to.reader.read());
          got += value?.byteLength ?? 0;
        }
        await until(10_000, "more", () => state.written >= 2 * most);
      }
    });

    it("end what outlasts the drain: the readable first, and the writable may say farewell", async () => {
      const { client, server, sluice, running } = await useEnds(lane, { drainTimeout: 2000 });
      const { request } = server;
      const closed = running.close();
      // What runs goes on.
      await client.write("x");
      expect(await server.read()).toBe("x");
      await until(10_000, "the refusal of new streams", async () => {
        const failure: unknown = await sluice.openStream("/ends", { timeoutMs: 1000 }).catch((error: unknown) => error);
        return (failure as { code?: Code }).code === Code.Unavailable;
      });
      const failure = await failureOf("the server's read", server.reader.read());
      expect([failure, request.signal.reason]).toEqual([
        expect.objectContaining({ code: Code.Unavailable }),
        request.signal.reason,
      ]);
      await server.write("farewell");
      await server.writer.close();
      expect(await client.readAll()).toBe("farewell");
      await within(10_000, "the close", closed);
    });

    it("cut what does not end after its signal", async () => {
      const { client, server, running, calls } = await useEnds(lane, { drainTimeout: 50 });
      const closed = running.close();
      const failure = await failureOf("the client's read", client.reader.read());
      expect(failure).toMatchObject({ code: expect.any(Number) });
      expect(server.request.signal.aborted).toBe(true);
      // Its handler has not returned: nobody waits for it.
      await within(10_000, "the close", closed);
      expect(calls.find(({ method }) => method === "/ends")).toMatchObject({ code: "unavailable" });
    });

    it("end a stream on which nothing is sent, and one on an aged connection", async () => {
      for (const [config, code, option] of [
        [{ streamIdleTimeout: 200 }, Code.Unavailable, "--stream-idle-timeout"],
        [{ streamTimeout: 200 }, Code.Unavailable, "--stream-timeout"],
        [{ maxConnectionAge: 1000, maxConnectionAgeGrace: 100 }, Code.Unavailable, "--max-connection-age"],
      ] as const) {
        const { client, server } = await useEnds(lane, config);
        const cut = failureOf("the client's read", client.reader.read());
        const failure = await failureOf("the server's read", server.reader.read());
        expect(failure).toMatchObject({ code, rawMessage: expect.stringContaining(option) });
        await cut;
      }
    });

    it("deny a stream if there are as many calls as the server takes", async () => {
      const { sluice } = await useEnds(lane, { maxCalls: 1 });
      const failure = await failureOf("the opening", sluice.openStream("/ends"));
      expect(failure).toMatchObject({ status: 429, reason: expect.stringContaining("--max-calls") });
    });

    it("leave nothing behind, however streams end", async () => {
      const { client, server, calls } = await useStreams(
        lane,
        {
          "/echo": async (request) => {
            if (request.query.has("deny")) {
              request.deny(403, "no");
              return;
            }
            const { readable, writable } = request.accept();
            await readable.pipeTo(writable);
          },
        },
        { adminPort: 0 },
      );
      const count = 200;
      for (let i = 0; i < count; i++) {
        if (i % 4 === 0) {
          await failureOf("the denial", client.openStream("/echo?deny"));
          continue;
        }
        const end = new End(await within(10_000, "a stream", client.openStream("/echo")));
        await end.write("x");
        expect(await end.read()).toBe("x");
        if (i % 4 === 1) await end.writer.abort();
        else await end.writer.close();
        if (i % 4 === 2) await end.reader.cancel();
        if (i % 4 === 3) expect(await end.read()).toBe(undefined);
      }
      await until(10_000, "the end of every call", () => calls.length === count);
      const metrics = await (await fetch(server.adminUrl ?? "")).text();
      expect(metrics).toMatch(/sluice_calls_active 0\n/);
      expect(metrics).toMatch(
        /sluice_calls_total\{method="\/echo",shape="bidi",protocol="raw",code="permission_denied"\} 50\n/,
      );
    });
  });
}
