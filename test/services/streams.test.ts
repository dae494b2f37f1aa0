import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { createHash } from "node:crypto";
import { expect, it } from "vitest";
import { DataError_Reason as Reason, DataService } from "../../gen/data/v1/data_pb.ts";
import { dataErrorOf, failureOf, useClient } from "../support/calls.ts";
import { describeOnEachStore, put } from "../support/data-calls.ts";

describeOnEachStore("streams", (server) => {
  const useData = () => useClient(DataService, server().url);

  it("are created empty, once, with the retention that was asked for, and described", async () => {
    const data = useData();
    const name = "streams/created";
    const retention = { maxAge: durationFromMs(3_600_500), maxBytes: 2n ** 40n, maxRecords: 7n };
    const before = Date.now();
    const { stream } = await data.createStream({ name, retention });
    expect(stream).toMatchObject({ name, head: 0n, tail: 0n, bytes: 0n, sealed: false, retention });
    expect(stream?.appendTime).toBeUndefined();
    expect((await data.getStream({ name })).stream).toEqual(stream);
    const again = await failureOf(data.createStream({ name }));
    expect(again.code).toBe(Code.AlreadyExists);
    expect(dataErrorOf(again)).toMatchObject({ reason: Reason.STREAM_EXISTS, stream: name });

    await data.append({ stream: name, records: [{ data: Buffer.from("abc"), headers: { type: "é" } }] });
    const { stream: after } = await data.getStream({ name });
    // Data, and headers in UTF-8.
    expect(after).toMatchObject({ head: 0n, tail: 1n, bytes: 9n });
    expect(after?.createTime).toEqual(stream?.createTime);
    for (const time of [after?.createTime, after?.appendTime]) {
      const ms = time === undefined ? NaN : timestampMs(time);
      expect(ms).toBeGreaterThanOrEqual(before);
      expect(ms).toBeLessThanOrEqual(Date.now());
    }
  });

  it("are listed in pages that clients can read, however much is said about each", async () => {
    const data = useData();
    const metadata = Object.fromEntries(Array.from({ length: 32 }, (_, i) => [`k${i}`, "é".repeat(512)]));
    const names = Array.from({ length: 50 }, (_, i) => `talkative/${String(i).padStart(2, "0")}`);
    for (const name of names) await data.createStream({ name, metadata });
    const listed: string[] = [];
    let pageToken = "";
    do {
      const page = await data.listStreams({ prefix: "talkative/", pageSize: 1000, pageToken });
      expect(page.streams.length).toBeGreaterThan(0);
      expect(page.streams.length).toBeLessThan(40);
      listed.push(...page.streams.map(({ name }) => name));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(listed).toEqual(names);
  });

  it("are not made by a last batch whose checksum is wrong", async () => {
    const data = useData();
    const stream = "streams/checked";
    const records = [{ data: Buffer.from("a") }, { data: Buffer.from("b") }];
    const last = { stream, createIfMissing: true, seal: true, records };
    const wrong = await failureOf(data.append({ ...last, sha256: new Uint8Array(32) }));
    expect(dataErrorOf(wrong).reason).toBe(Reason.CHECKSUM_MISMATCH);
    expect((await failureOf(data.getStream({ name: stream }))).code).toBe(Code.NotFound);
    const sha256 = createHash("sha256").update("ab").digest();
    await data.append({ ...last, sha256 });
    expect((await data.getStream({ name: stream })).stream).toMatchObject({
      tail: 2n,
      sealed: true,
      sha256FirstSeq: 0n,
    });
  });

  it("that do not exist are NOT_FOUND for every method that names one", async () => {
    const data = useData();
    const name = "streams/absent";
    for (const call of [
      () => data.getStream({ name }),
      () => data.deleteStream({ name }),
      () => data.trimStream({ name, beforeSeq: 0n }),
      () => data.sealStream({ name }),
      () => data.sealStream({ name, sha256: new Uint8Array(32) }),
    ]) {
      const error = await failureOf(call());
      expect(error.code).toBe(Code.NotFound);
      expect(dataErrorOf(error)).toMatchObject({ reason: Reason.STREAM_NOT_FOUND, stream: name });
    }
  });

  it("are listed by prefix in the order of their names, page by page, also while some come and go", async () => {
    const data = useData();
    const names = Array.from({ length: 105 }, (_, i) => `listed/${String(i).padStart(3, "0")}`);
    for (const name of [...names, "listed", "listed.other"].reverse()) await data.createStream({ name });
    const page = async (pageSize: number, pageToken: string) =>
      data.listStreams({ prefix: "listed/", pageSize, pageToken });
    for (const size of [1, 7, 35, 104, 105, 106, 1000]) {
      const found: string[] = [];
      for (let token = ""; ;) {
        const { streams, nextPageToken } = await page(size, token);
        expect(streams.length).toBeLessThanOrEqual(size);
        found.push(...streams.map(({ name }) => name));
        // A page is full unless it is the last, and the last says so.
        expect(nextPageToken === "").toBe(found.length === names.length);
        if (nextPageToken === "") break;
        expect(streams.length).toBe(size);
        token = nextPageToken;
      }
      expect(found, `pages of ${size}`).toEqual(names);
    }
    const unset = await page(0, "");
    expect(unset.streams.length).toBe(100);
    // The last one of a page goes before the next page is asked for.
    await data.deleteStream({ name: "listed/099" });
    const rest = await page(0, unset.nextPageToken);
    expect(rest.streams.map(({ name }) => name)).toEqual(names.slice(100));
    expect((await data.listStreams({ prefix: "listed/nothing" })).streams).toEqual([]);
    const bad = await failureOf(page(1, "%%%"));
    expect(bad.code).toBe(Code.InvalidArgument);
    expect(bad.rawMessage).toContain("page_token");
  });

  it("lose their oldest records by a trim, which can be repeated, but not beyond the tail", async () => {
    const data = useData();
    const name = "streams/trimmed";
    await put(data, name, "a", "bb", "ccc");
    for (const [beforeSeq, head, bytes] of [
      [1n, 1n, 5n],
      [1n, 1n, 5n],
      [0n, 1n, 5n],
      [3n, 3n, 0n],
      [2n, 3n, 0n],
    ] as const) {
      expect((await data.trimStream({ name, beforeSeq })).stream).toMatchObject({ head, tail: 3n, bytes });
    }
    const beyond = await failureOf(data.trimStream({ name, beforeSeq: 4n }));
    expect(beyond.code).toBe(Code.OutOfRange);
    expect(dataErrorOf(beyond)).toMatchObject({ reason: Reason.POSITION_OUT_OF_RANGE, head: 3n, tail: 3n });
    // A seq is never used again.
    expect(await data.append({ stream: name, records: [{ data: Buffer.from("d") }] })).toMatchObject({ firstSeq: 3n });
  });

  it("made again under a name start at 0", async () => {
    const data = useData();
    const name = "streams/again";
    await put(data, name, "a", "b");
    await data.deleteStream({ name });
    expect((await failureOf(data.getStream({ name }))).code).toBe(Code.NotFound);
    await data.createStream({ name });
    expect((await data.getStream({ name })).stream).toMatchObject({ head: 0n, tail: 0n, bytes: 0n });
  });
});
