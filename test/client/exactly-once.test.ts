import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { createSluiceClient } from "../../src/client/index.ts";
import type { SluiceClient, SluiceClientOptions } from "../../src/client/index.ts";
import type { Config } from "../../src/config.ts";
import { random, useProxy } from "../support/cutting-proxy.ts";
import { within } from "../support/deadline.ts";
import { useServer } from "../support/server.ts";
import { storedTexts, useSluiceClient } from "../support/sluice-client.ts";

const retry = { attempts: 50, baseDelayMs: 1, maxDelayMs: 20 };

function useClient(url: string, options: Partial<SluiceClientOptions> = {}): SluiceClient {
  return useSluiceClient(url, { retry, ...options });
}

const lanes = [
  { protocol: "connect", httpVersion: "2" },
  { protocol: "grpc", httpVersion: "2" },
  { protocol: "grpc-web", httpVersion: "2" },
  { protocol: "connect", httpVersion: "1.1" },
] as const;

describe("over connections that are cut at random places", () => {
  for (const [seed, lane] of lanes.entries()) {
    const { protocol, httpVersion } = lane;
    it(
      `${protocol} on HTTP/${httpVersion}: each record is stored exactly once, and read exactly once`,
      { timeout: 300_000 },
      async () => {
        const server = await useServer();
        // One at a time costs a round trip each: fewer there, and more cuts.
        const [count, meanBytes] = httpVersion === "2" ? [3000, 6000] : [300, 1500];
        const writes = await useProxy(server.url, seed + 1, meanBytes);
        const reads = await useProxy(server.url, seed + 101, meanBytes);
        const writer = useClient(writes.url, lane);
        const reader = useClient(reads.url, lane);
        const direct = useClient(server.url);
        await direct.data.createStream("s");
        const input = Array.from({ length: count }, (_, i) => `record ${i} ${"x".repeat(i % 50)}`);

        const seen: string[] = [];
        const following = (async () => {
          for await (const { seq, data } of reader.data.read("s", { follow: true, heartbeatIntervalMs: 1000 })) {
            expect(seq).toBe(BigInt(seen.length));
            seen.push(Buffer.from(data).toString());
            if (seen.length === count) break;
          }
        })();

        const appender = writer.data.appender("s");
        const next = random(seed);
        const acks: Promise<{ firstSeq: bigint }>[] = [];
        for (let i = 0; i < count;) {
          await within(30_000, "room for another batch", appender.ready());
          const batch = input.slice(i, i + 1 + Math.floor(next() * 5));
          const firstSeq = BigInt(i);
          acks.push(appender.append(batch.map((data) => ({ data }))));
          acks.at(-1)?.then(
            (ack) => {
              expect(ack.firstSeq).toBe(firstSeq);
            },
            () => undefined,
          );
          i += batch.length;
        }
        await within(60_000, "the last ack", appender.close());
        await Promise.all(acks);
        expect(await storedTexts(direct, "s")).toEqual(input);
        await within(60_000, "the reader's last record", following);
        expect(seen).toEqual(input);
        expect(writes.cuts).toBeGreaterThan(3);
        expect(reads.cuts).toBeGreaterThan(3);
      },
    );
  }

  for (const httpVersion of ["1.1", "2"] as const) {
    it(`an upload on HTTP/${httpVersion} resumes, and its seal is right`, { timeout: 300_000 }, async () => {
      const server = await useServer();
      const proxy = await useProxy(server.url, 7, 400_000);
      const client = useClient(proxy.url, { httpVersion });
      const chunks = Array.from({ length: 200 }, (_, i) => Buffer.alloc(16 * 1024, i));
      const sha256 = createHash("sha256").update(Buffer.concat(chunks)).digest();
      const result = await within(
        60_000,
        "the upload",
        client.data.upload(
          "file",
          async function* (from) {
            for (const data of chunks.slice(Number(from))) yield await Promise.resolve({ data });
          },
          { createIfMissing: true, seal: { sha256: () => sha256 } },
        ),
      );
      expect(result).toMatchObject({ tail: 200n, sealed: true });
      const direct = useClient(server.url);
      const hash = createHash("sha256");
      for await (const { data } of direct.data.read("file")) hash.update(data);
      expect(hash.digest()).toEqual(sha256);
      expect(proxy.cuts).toBeGreaterThan(2);
    });
  }

  it("a seal whose ack is lost is found to be done", async () => {
    const server = await useServer();
    const proxy = await useProxy(server.url);
    const client = useClient(proxy.url);
    const appender = client.data.appender("s", { createIfMissing: true });
    await appender.append([{ data: "a" }]);
    const sealed = appender.seal(createHash("sha256").update("a").digest());
    await expect.poll(async () => await useClientOnce(server.url, "s")).toBe(true);
    proxy.cutAll();
    await within(10_000, "the ack of the seal", sealed);
    await appender.close();
  });
});

async function useClientOnce(url: string, stream: string): Promise<boolean> {
  await using client = createSluiceClient({ url, token: "sample" });
  return (await client.data.getStream(stream)).sealed;
}

describe("what comes back", () => {
  const use = async (config: Partial<Config> = {}) => {
    const server = await useServer(config);
    return { server, client: useClient(server.url) };
  };

  it("a failure that is final fails everything pending and later", async () => {
    const { client } = await use();
    await client.data.createStream("s");
    const appender = client.data.appender("s", { expectedSeq: 5 });
    const results = await Promise.allSettled([1, 2, 3].map((n) => appender.append([{ data: String(n) }])));
    expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    await expect(appender.append([{ data: "4" }])).rejects.toThrow(/expected the tail to be 5/);
    await expect(appender.ready()).rejects.toThrow(/expected the tail to be 5/);
    await expect(appender.close()).rejects.toThrow(/expected the tail to be 5/);
    expect(await storedTexts(client, "s")).toEqual([]);
  });

  it("an appender goes on after its idle call was ended by the server", async () => {
    const { client } = await use({ streamIdleTimeout: 100 });
    const appender = client.data.appender("s", { createIfMissing: true });
    await appender.append([{ data: "a" }]);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await within(10_000, "the second ack", appender.append([{ data: "b" }]));
    await appender.close();
    expect(await storedTexts(client, "s")).toEqual(["a", "b"]);
  });

  it("a following read resumes when its server is replaced", async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "sluice-replaced-"));
    onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
    const server = await useServer({ store: "lmdb", dataDir });
    const proxy = await useProxy(server.url);
    const client = useClient(proxy.url, { retry: { attempts: 1000, baseDelayMs: 5, maxDelayMs: 50 } });
    await client.data.append("s", [{ data: "a" }], { createIfMissing: true });
    const retries: number[] = [];
    const seen: string[] = [];
    const follow = (async () => {
      for await (const { data } of client.data.read("s", { follow: true, onRetry: (_, n) => retries.push(n) })) {
        seen.push(Buffer.from(data).toString());
        if (seen.length === 2) break;
      }
    })();
    await expect.poll(() => seen.length).toBe(1);
    await server.close();
    const again = await useServer({ store: "lmdb", dataDir });
    proxy.retarget(again.url);
    await useClient(again.url).data.append("s", [{ data: "b" }]);
    await within(20_000, "the second record", follow);
    expect(seen).toEqual(["a", "b"]);
    expect(retries.length).toBeGreaterThan(0);
  });

  it("leaving a loop cancels the call on the server", async () => {
    const { client, server } = await use({ adminPort: 0 });
    for await (const _ of client.greet.greetRepeatedly({ name: "Ada", times: 1_000_000, interval: { nanos: 1e6 } }))
      break;
    await client.data.append("s", [{ data: "a" }], { createIfMissing: true });
    for await (const _ of client.data.read("s", { follow: true })) break;
    const active = async () =>
      /^sluice_calls_active (\d+)$/m.exec(await (await fetch(server.adminUrl ?? "")).text())?.[1];
    await expect.poll(active, { timeout: 5000 }).toBe("0");
  });

  it("an AbortSignal ends a read with its reason, also while it waits", async () => {
    const { client } = await use();
    await client.data.createStream("s");
    const controller = new AbortController();
    const read = (async () => {
      const options = {
        follow: true,
        signal: controller.signal,
        onCaughtUp: () => controller.abort(new Error("enough")),
      };
      for await (const _ of client.data.read("s", options));
    })();
    await expect(within(10_000, "the end of the read", read)).rejects.toThrow("enough");
  });

  it("a limit counts across breaks", async () => {
    const { server, client } = await use();
    const appender = client.data.appender("s", { createIfMissing: true });
    for (let i = 0; i < 500; i++) void appender.append([{ data: `${i} ${"x".repeat(100)}` }]);
    await appender.close();
    const proxy = await useProxy(server.url, 3, 8000);
    const reader = useClient(proxy.url);
    let count = 0;
    for await (const { seq } of reader.data.read("s", { maxRecords: 400 })) expect(seq).toBe(BigInt(count++));
    expect(count).toBe(400);
    expect(proxy.cuts).toBeGreaterThan(0);
  });
});
