import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { createSluiceClient } from "../../src/client/index.ts";
import type { SluiceClient } from "../../src/client/index.ts";
import { random } from "../support/cutting-proxy.ts";
import { within } from "../support/deadline.ts";
import { Received, put, tlsFiles, useHttp3, useHttp3Client } from "../support/http3.ts";
import { startServer } from "../support/server.ts";
import { createUdpProxy } from "../support/udp-proxy.ts";
import type { UdpProxy } from "../support/udp-proxy.ts";

const weather = { loss: 0.05, reordering: 0.05 };
const MiB = 1024 * 1024;

async function useProxy(target: number, seed: number): Promise<UdpProxy> {
  const proxy = await createUdpProxy(target, seed, weather);
  onTestFinished(() => {
    proxy.close();
  });
  return proxy;
}

/** A server behind the proxy, and a client that calls it through that. */
async function useStormy(seed: number): Promise<{ client: SluiceClient; direct: SluiceClient; proxy: UdpProxy }> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-loss-"));
  onTestFinished(() => rm(dir, { recursive: true }));
  const files = { tlsCert: join(dir, "cert.pem"), tlsKey: join(dir, "key.pem") };
  await Promise.all([writeFile(files.tlsCert, tlsFiles.cert), writeFile(files.tlsKey, tlsFiles.key)]);
  const server = await startServer({ ...files, http3: true, store: "lmdb", dataDir: join(dir, "data") });
  onTestFinished(() => server.close());
  const proxy = await useProxy(server.http3Port ?? 0, seed);
  const [client, direct] = [proxy.port, server.http3Port ?? 0].map((port) => {
    const made = createSluiceClient({
      url: `https://127.0.0.1:${port}`,
      token: "sample",
      ca: tlsFiles.ca,
      httpVersion: "3",
    });
    onTestFinished(() => made.close());
    return made;
  }) as [SluiceClient, SluiceClient];
  return { client, direct, proxy };
}

function expectStorm(proxy: UdpProxy): void {
  expect([proxy.lost > 5, proxy.reordered > 5]).toEqual([true, true]);
}

describe("with 5 % of the datagrams lost and 5 % reordered, each way", () => {
  it("bodies of 8 MiB arrive whole, up and down", { timeout: 300_000 }, async () => {
    const up = createHash("sha256");
    const { listener } = await useHttp3((exchange) => {
      exchange.sendHead(200, new Headers());
      exchange.receive({
        onChunk(chunk) {
          up.update(chunk);
          if (!exchange.write([chunk])) {
            exchange.pause();
            exchange.onDrain(() => {
              exchange.resume();
            });
          }
        },
        onEnd() {
          exchange.end(new Headers({ "x-end": "1" }));
        },
      });
    });
    const proxy = await useProxy(listener.port, 1);
    const url = `https://127.0.0.1:${proxy.port}`;
    const sent = createHash("sha256");
    const down = createHash("sha256");
    const received = new Received();
    received.onEach = () => {
      down.update(received.chunks.pop() ?? new Uint8Array());
    };
    const exchange = await useHttp3Client(url)({ method: "POST", url, header: new Headers() }, received);
    const move = async (): Promise<Headers> => {
      for (let i = 0; i < 8; i++) {
        const block = randomBytes(MiB);
        sent.update(block);
        await put(exchange, received, block);
      }
      exchange.end();
      return received.end.promise;
    };
    const trailer = await within(100_000, "the end of 8 MiB", move());
    const hash = sent.digest("hex");
    expect([received.bytes, up.digest("hex"), down.digest("hex"), trailer.get("x-end")]).toEqual([
      8 * MiB,
      hash,
      hash,
      "1",
    ]);
    expectStorm(proxy);
  });

  it("streams of messages lose none, in order", { timeout: 300_000 }, async () => {
    const { client, proxy } = await useStormy(2);
    // Enough bytes for some hundred datagrams, however many messages share one.
    const count = 12_000;
    const nameOf = (i: number): string => String(i).padEnd(90, "x");
    async function* names(): AsyncGenerator<{ name: string }> {
      for (let i = 0; i < count; i++) {
        yield { name: nameOf(i) };
        if (i % 5 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
    }
    const greetings: string[] = [];
    const each = async (): Promise<void> => {
      for await (const { greeting } of client.greet.greetEach(names())) greetings.push(greeting);
    };
    await within(100_000, "the end of the greetings", each());
    expect(greetings).toEqual(Array.from({ length: count }, (_, i) => `Hello, ${nameOf(i)}!`));
    expectStorm(proxy);
  });

  it("the store keeps each record exactly once", { timeout: 300_000 }, async () => {
    const { client, direct, proxy } = await useStormy(3);
    await client.data.createStream("s");
    const next = random(4);
    const records = Array.from({ length: 3000 }, (_, i) => `record ${i} ${"x".repeat(Math.floor(next() * 2000))}`);
    const append = async (): Promise<void> => {
      const appender = client.data.appender("s");
      for (let i = 0; i < records.length; i += 5) {
        await appender.ready();
        void appender.append(records.slice(i, i + 5).map((data) => ({ data })));
      }
      await appender.close();
    };
    await within(100_000, "the acks", append());
    // Through the storm, and past it.
    for (const reader of [client, direct]) {
      const read: string[] = [];
      const all = async (): Promise<void> => {
        for await (const { data } of reader.data.read("s")) read.push(Buffer.from(data).toString());
      };
      await within(100_000, "the records", all());
      expect(read).toEqual(records);
    }
    expectStorm(proxy);
  });
});
