import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { checkpointAfter, formatCheckpoint, parseCheckpoint } from "../../src/client/index.ts";
import type { ReadRecord, SluiceClient } from "../../src/client/index.ts";
import { reasonOf } from "../support/data-errors.ts";
import { nowhere, useProxy } from "../support/cutting-proxy.ts";
import { within } from "../support/deadline.ts";
import { startServer, useServer } from "../support/server.ts";
import { clientLanes, storedTexts, useSluiceClient } from "../support/sluice-client.ts";

function recordsOf(prefix: string, count: number): { data: string }[] {
  return Array.from({ length: count }, (_, i) => ({ data: `${prefix}${i}` }));
}

/** Deletes the stream and makes another one, with more records, under its name. */
async function replace({ data }: SluiceClient, name: string): Promise<void> {
  await data.deleteStream(name);
  await data.append(name, recordsOf("new", 15), { createIfMissing: true });
}

async function take(records: AsyncIterator<ReadRecord>, count: number): Promise<string[]> {
  const texts: string[] = [];
  while (texts.length < count) {
    const { value, done } = await within(10_000, "a record", records.next());
    if (done === true) break;
    texts.push(Buffer.from(value.data).toString());
  }
  return texts;
}

for (const lane of clientLanes) {
  describe(`a stream that is deleted and made again, over ${lane.protocol} on HTTP/${lane.httpVersion}`, () => {
    it("is not what a reader goes on in after an outage", async () => {
      const server = await useServer();
      const proxy = await useProxy(server.url);
      const direct = useSluiceClient(server.url, lane);
      await direct.data.append("s", recordsOf("old", 10), { createIfMissing: true });
      const reader = useSluiceClient(proxy.url, { ...lane, retry: { maxDelayMs: 50, attempts: 1000 } });
      const records = reader.data.read("s", { follow: true });
      expect(await take(records, 10)).toEqual(recordsOf("old", 10).map(({ data }) => data));
      proxy.retarget(nowhere);
      proxy.cutAll();
      await replace(direct, "s");
      proxy.retarget(server.url);
      expect(await reasonOf(records.next())).toBe("STREAM_REPLACED");
    });

    it("is not what a checkpoint is for", async () => {
      const client = useSluiceClient((await useServer()).url, lane);
      await client.data.append("s", recordsOf("old", 10), { createIfMissing: true });
      let kept = "";
      for await (const record of client.data.read("s", { maxRecords: 4 })) {
        kept = formatCheckpoint(checkpointAfter(record));
      }
      const { uid } = await client.data.getStream("s");
      expect(kept).toBe(`${uid}:4`);
      expect(await take(client.data.read("s", { from: parseCheckpoint(kept) }), 100)).toHaveLength(6);
      await replace(client, "s");
      const late = client.data.read("s", { from: parseCheckpoint(kept) });
      expect(await reasonOf(late.next())).toBe("STREAM_REPLACED");
      expect(await take(client.data.read("s", { from: { seq: 4 } }), 1)).toEqual(["new4"]);
    });

    it.each([{}, { producerId: "host1" }, { producerId: "host1", epoch: 7 }])(
      "gets nothing of an appender that was opened before, with %j",
      async (options) => {
        const client = useSluiceClient((await useServer()).url, lane);
        const appender = client.data.appender("s", { createIfMissing: true, ...options });
        const { uid, nextSeq } = await appender.append([{ data: "old" }]);
        expect({ uid, nextSeq }).toEqual({ uid: (await client.data.getStream("s")).uid, nextSeq: 1n });
        await client.data.deleteStream("s");
        await client.data.append("s", [{ data: "new" }], { createIfMissing: true });
        expect(await reasonOf(appender.append([{ data: "late" }]))).toBe("STREAM_REPLACED");
        expect(await storedTexts(client, "s")).toEqual(["new"]);
      },
    );

    it("is safe from everything that names the uid of the one before", async () => {
      const client = useSluiceClient((await useServer()).url, lane);
      await client.data.append("s", [{ data: "old" }], { createIfMissing: true });
      const { uid: expectedUid } = await client.data.getStream("s");
      await replace(client, "s");
      const { data } = client;
      const works = {
        append: () => data.append("s", [{ data: "late" }], { expectedUid, createIfMissing: true }),
        appender: () => data.appender("s", { expectedUid, createIfMissing: true }).append([{ data: "late" }]),
        upload: () => data.upload("s", () => late(), { expectedUid, createIfMissing: true }),
        claim: () => data.claimProducer("s", "p", { expectedUid }),
        trim: () => data.trimStream("s", 3, { expectedUid }),
        seal: () => data.sealStream("s", { expectedUid }),
        checkedSeal: () => data.sealStream("s", { expectedUid, sha256: new Uint8Array(32) }),
        delete: () => data.deleteStream("s", { expectedUid }),
      };
      for (const [what, work] of Object.entries(works)) expect(await reasonOf(work()), what).toBe("STREAM_REPLACED");
      expect(await client.data.getStream("s")).toMatchObject({ head: 0n, tail: 15n, sealed: false });
    });
  });
}

async function* late(): AsyncGenerator<{ data: string }> {
  yield await Promise.resolve({ data: "late" });
}

it("an upload is done only if it was tried, and in the stream that it is meant for", async () => {
  const server = await useServer();
  const proxy = await useProxy(nowhere);
  const direct = useSluiceClient(server.url);
  await direct.data.append("s", [{ data: "theirs" }], { createIfMissing: true });
  await direct.data.sealStream("s");
  const { uid } = await direct.data.getStream("s");
  const client = useSluiceClient(proxy.url, { retry: { maxDelayMs: 50, attempts: 1000 } });
  const upload = (options: object): Promise<unknown> => {
    // The first attempt finds no server.
    proxy.retarget(nowhere);
    proxy.cutAll();
    const onRetry = (): void => {
      proxy.retarget(server.url);
    };
    return client.data.upload("s", () => late(), { seal: true, onRetry, ...options });
  };
  expect(await reasonOf(upload({}))).toBe("STREAM_SEALED");
  expect(await reasonOf(upload({ expectedUid: uid }))).toBe("STREAM_SEALED");
  expect(await reasonOf(upload({ expectedUid: "another" }))).toBe("STREAM_REPLACED");
});

it("an exchange is of the stream that its checkpoint names", async () => {
  const { data } = useSluiceClient((await useServer()).url);
  const { streamUid } = await data.append("s", recordsOf("old", 3), { createIfMissing: true });
  const open = async (uid: string): Promise<unknown> => {
    const exchange = data.exchange("s", { read: { from: { seq: 1, uid }, follow: false } });
    exchange.end();
    const events = [];
    for await (const event of exchange.events) events.push(event);
    return events;
  };
  expect(await within(10_000, "the events", open(streamUid))).toMatchObject([
    { kind: "opened", uid: streamUid },
    { kind: "record", record: { seq: 1n, uid: streamUid } },
    { kind: "record", record: { seq: 2n, uid: streamUid } },
  ]);
  expect(await reasonOf(open("another"))).toBe("STREAM_REPLACED");
  const read = { from: { seq: 1, uid: streamUid } };
  expect(() => data.exchange("s", { read, expectedUid: "another" })).toThrow(TypeError);
});

describe("a server that comes back with an older copy of its data", () => {
  /** A client, and what puts its server's data back to where they were before. */
  async function useOlderCopy(): Promise<{ client: SluiceClient; restore: () => Promise<void> }> {
    const dir = await mkdtemp(join(tmpdir(), "sluice-identity-"));
    onTestFinished(() => rm(dir, { recursive: true }));
    const [dataDir, copy] = [join(dir, "data"), join(dir, "copy")];
    const first = await startServer({ store: "lmdb", dataDir });
    const proxy = await useProxy(first.url);
    const client = useSluiceClient(proxy.url, { retry: { maxDelayMs: 50, attempts: 1000 } });
    await client.data.append("s", recordsOf("kept", 5), { createIfMissing: true });
    await first.close();
    await cp(dataDir, copy, { recursive: true });
    const second = await startServer({ store: "lmdb", dataDir });
    proxy.retarget(second.url);
    return {
      client,
      async restore() {
        proxy.retarget(nowhere);
        await second.close();
        proxy.retarget((await useServer({ store: "lmdb", dataDir: copy })).url);
      },
    };
  }

  it("is noticed by a reader that has seen more", async () => {
    const { client, restore } = await useOlderCopy();
    await client.data.append("s", recordsOf("lost", 3));
    const records = client.data.read("s", { follow: true });
    await take(records, 8);
    await restore();
    expect(await reasonOf(records.next())).toBe("POSITION_OUT_OF_RANGE");
  });

  it("is noticed by an appender whose batches were acked", async () => {
    const { client, restore } = await useOlderCopy();
    const appender = client.data.appender("s");
    await appender.append([{ data: "lost" }]);
    await restore();
    await expect(within(10_000, "the end", appender.append([{ data: "late" }]))).rejects.toThrow(
      /acknowledged up to seq 5, but its tail is 5: the server has an older copy/,
    );
  });
});

describe("a checkpoint as text", () => {
  it("is read back", () => {
    for (const checkpoint of [
      { uid: "mJ0c_4fTqA1b", seq: 42n },
      { uid: "", seq: 0n },
      { uid: "-_", seq: 2n ** 53n },
    ]) {
      expect(parseCheckpoint(formatCheckpoint(checkpoint))).toEqual(checkpoint);
    }
  });

  it.each([
    "",
    "42",
    ":",
    "abc:",
    "abc:-1",
    "a b:1",
    "abc:1.5",
    "abc:1 ",
    "-abc :1",
    `abc:${"1".repeat(20)}`,
    `${"x".repeat(65)}:1`,
  ])("%j is none", (text) => {
    expect(() => parseCheckpoint(text)).toThrow(TypeError);
    expect(() => parseCheckpoint(text)).toThrow(/^a checkpoint is a uid, a colon and a seq, such as /);
  });
});
