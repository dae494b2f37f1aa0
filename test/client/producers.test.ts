import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { dataErrorOf } from "../../src/client/index.ts";
import type { Ack, Appender } from "../../src/client/index.ts";
import { reasonOf } from "../support/data-errors.ts";
import { until, within } from "../support/deadline.ts";
import { startServer, useServer } from "../support/server.ts";
import { clientLanes, storedTexts, useSluiceClient } from "../support/sluice-client.ts";

function sha256Of(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}

function appendAll(appender: Appender, ...texts: string[]): Promise<Ack[]> {
  return within(10_000, "the acks", Promise.all(texts.map((data) => appender.append([{ data }]))));
}

for (const lane of clientLanes) {
  describe(`a producer id over ${lane.protocol} on HTTP/${lane.httpVersion}`, () => {
    it("that is used again by the next run of a program loses nothing, and fences the run before", async () => {
      const client = useSluiceClient((await useServer()).url, lane);
      const options = { producerId: "host1", createIfMissing: true };
      const first = client.data.appender("s", options);
      await appendAll(first, "1a", "1b");
      const second = client.data.appender("s", options);
      const acks = await appendAll(second, "2a", "2b", "2c");
      expect(acks.map(({ firstSeq, duplicate }) => [firstSeq, duplicate])).toEqual([
        [2n, false],
        [3n, false],
        [4n, false],
      ]);
      expect(await reasonOf(first.append([{ data: "late" }]))).toBe("PRODUCER_FENCED");
      await second.close();
      expect(await storedTexts(client, "s")).toEqual(["1a", "1b", "2a", "2b", "2c"]);
    });

    it("seals behind its batches, with the SHA-256 of all of them, and not once it is fenced", async () => {
      const client = useSluiceClient((await useServer()).url, lane);
      const options = { producerId: "host1", createIfMissing: true };
      const fenced = client.data.appender("s", options);
      await appendAll(fenced, "before");
      const appender = client.data.appender("s", options);
      await appendAll(appender, "a", "b");
      expect(await reasonOf(fenced.seal())).toBe("PRODUCER_FENCED");
      expect((await client.data.getStream("s")).sealed).toBe(false);
      const wrong = client.data.appender("s", options);
      await appendAll(wrong, "c");
      expect(await reasonOf(wrong.seal(sha256Of("beforeabc")))).toBe("CHECKSUM_MISMATCH");
      const last = client.data.appender("s", options);
      await appendAll(last, "d", "e");
      // Of what its own epoch has stored.
      await within(10_000, "the seal", last.seal(sha256Of("de")));
      await last.close();
      expect(await client.data.getStream("s")).toMatchObject({ sealed: true, tail: 6n, sha256FirstSeq: 4n });
    });

    it("with an epoch of the program's own stores the same batches once, and tells of others", async () => {
      const client = useSluiceClient((await useServer()).url, lane);
      const options = { producerId: "file", epoch: 0, createIfMissing: true };
      const run = async (...texts: string[]): Promise<boolean[]> => {
        const appender = client.data.appender("s", options);
        const acks = await appendAll(appender, ...texts);
        await appender.close();
        return acks.map(({ duplicate }) => duplicate);
      };
      expect(await run("a", "b")).toEqual([false, false]);
      expect(await run("a", "b", "c")).toEqual([true, true, false]);
      expect(await reasonOf(run("a", "other"))).toBe("PRODUCER_CONFLICT");
      expect(await storedTexts(client, "s")).toEqual(["a", "b", "c"]);
    });
  });
}

it("an exchange claims its producer, too", async () => {
  const client = useSluiceClient((await useServer()).url);
  for (const run of ["1", "2"]) {
    const exchange = client.data.exchange("s", { producerId: "host1", createIfMissing: true });
    const events = (async () => {
      for await (const _ of exchange.events);
    })();
    const ack = await within(10_000, "an ack", exchange.send([{ data: run }]));
    expect(ack.duplicate).toBe(false);
    exchange.end();
    await within(10_000, "the end", events);
  }
  expect(await storedTexts(client, "s")).toEqual(["1", "2"]);
});

it("unary appends under a claimed producer are stored once each", async () => {
  const client = useSluiceClient((await useServer()).url);
  const claim = (): Promise<bigint> => client.data.claimProducer("s", "host1", { createIfMissing: true });
  const producer = { id: "host1", epoch: await claim() };
  const append = (data: string, producerSeq: number) => client.data.append("s", [{ data }], { producer, producerSeq });
  expect((await append("a", 0)).duplicate).toBe(false);
  expect((await append("a", 0)).duplicate).toBe(true);
  expect(await reasonOf(append("b", 0))).toBe("PRODUCER_CONFLICT");
  expect(await claim()).toBe(producer.epoch + 1n);
  expect(await reasonOf(append("c", 1))).toBe("PRODUCER_FENCED");
});

describe("a producer that the server has forgotten", () => {
  /** An appender with something stored, whose server has been started again since, and has forgotten its producer. */
  async function useForgotten(options: { epoch?: number }) {
    const dataDir = await mkdtemp(join(tmpdir(), "sluice-producers-"));
    onTestFinished(() => rm(dataDir, { recursive: true }));
    const before = await startServer({ store: "lmdb", dataDir });
    const client = useSluiceClient(before.url);
    const appender = client.data.appender("s", { producerId: "host1", createIfMissing: true, ...options });
    await appendAll(appender, "a", "b");
    await before.close();
    const port = Number(new URL(before.url).port);
    await useServer({ store: "lmdb", dataDir, port, producerTtl: 1000, sweepInterval: 100 });
    const probe = { producer: { id: "host1", epoch: BigInt(options.epoch ?? 1) }, producerSeq: 99 };
    await until(10_000, "the server to forget the producer", async () => {
      const failure: unknown = await client.data
        .append("s", [{ data: "probe" }], probe)
        .catch((error: unknown) => error);
      return dataErrorOf(failure)?.nextProducerSeq === 0n;
    });
    return { client, appender };
  }

  it("goes on, if all that it had sent was acked", async () => {
    const { client, appender } = await useForgotten({});
    await appendAll(appender, "c", "d");
    await appender.close();
    expect(await storedTexts(client, "s")).toEqual(["a", "b", "c", "d"]);
  });

  it("fails with what the server expects, if the program numbers its batches itself", async () => {
    const { client, appender } = await useForgotten({ epoch: 3 });
    expect(await reasonOf(appender.append([{ data: "c" }]))).toBe("PRODUCER_GAP");
    expect(await storedTexts(client, "s")).toEqual(["a", "b"]);
  });
});
