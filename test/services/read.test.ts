import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { createHash } from "node:crypto";
import { expect, it } from "vitest";
import { DataError_Reason as Reason, DataService } from "../../gen/data/v1/data_pb.ts";
import { Taker, collect, dataErrorOf, failureOf, useClient } from "../support/calls.ts";
import { describeOnEachStore, line, put, textsOf } from "../support/data-calls.ts";
import { until, within } from "../support/deadline.ts";
import { useServer } from "../support/server.ts";

let streams = 0;
const newName = (): string => `read/${++streams}`;

describeOnEachStore("Read", (server) => {
  const useData = () => useClient(DataService, server().url);

  it("begins at the head, at a seq (also within a batch), or before the tail, and ends at the tail", async () => {
    const data = useData();
    const stream = newName();
    await put(data, stream, "a", "b", "c");
    await put(data, stream, "d");
    await put(data, stream, "e", "f");
    for (const [from, expected] of [
      [{ case: undefined }, ["0: a, b, c", "3: d", "4: e, f"]],
      [{ case: "seq", value: 0n }, ["0: a, b, c", "3: d", "4: e, f"]],
      [{ case: "seq", value: 1n }, ["1: b, c", "3: d", "4: e, f"]],
      [{ case: "seq", value: 5n }, ["5: f"]],
      [{ case: "seq", value: 6n }, []],
      [{ case: "tailOffset", value: 0n }, []],
      [{ case: "tailOffset", value: 3n }, ["3: d", "4: e, f"]],
      [{ case: "tailOffset", value: 100n }, ["0: a, b, c", "3: d", "4: e, f"]],
    ] as const) {
      expect((await collect(data.read({ stream, from }))).map(line), JSON.stringify(from.case)).toEqual(expected);
    }
    await data.trimStream({ name: stream, beforeSeq: 2n });
    for (const from of [{ case: undefined }, { case: "tailOffset", value: 100n }] as const) {
      expect((await collect(data.read({ stream, from }))).map(line)).toEqual(["2: c", "3: d", "4: e, f"]);
    }
  });

  it("begins at the first record that was stored at a time or later", async () => {
    const data = useData();
    const stream = newName();
    await put(data, stream, "a", "b");
    const stored = Date.now();
    await until(5000, "the next millisecond", () => Date.now() > stored + 1);
    await put(data, stream, "c");
    const times = (await collect(data.read({ stream }))).map(({ message }) =>
      message.case === "batch" && message.value.time !== undefined ? timestampMs(message.value.time) : NaN,
    );
    const [first = NaN, second = NaN] = times;
    expect(second).toBeGreaterThan(first);
    const readFrom = async (ms: number): Promise<string[]> =>
      (await collect(data.read({ stream, from: { case: "time", value: timestampFromMs(ms) } }))).map(line);
    expect(await readFrom(0)).toEqual(["0: a, b", "2: c"]);
    expect(await readFrom(first)).toEqual(["0: a, b", "2: c"]);
    expect(await readFrom(first + 1)).toEqual(["2: c"]);
    expect(await readFrom(second)).toEqual(["2: c"]);
    expect(await readFrom(second + 1)).toEqual([]);
    // A trim moves the beginning; asking for an earlier time is still no error.
    await data.trimStream({ name: stream, beforeSeq: 1n });
    expect(await readFrom(0)).toEqual(["1: b", "2: c"]);
  });

  it("ends after max_records, also within a batch and while following", async () => {
    const data = useData();
    const stream = newName();
    await put(data, stream, "a", "b", "c");
    await put(data, stream, "d", "e");
    const read = async (maxRecords: bigint): Promise<string[]> =>
      (await collect(data.read({ stream, maxRecords }))).map(line);
    expect(await read(1n)).toEqual(["0: a"]);
    expect(await read(4n)).toEqual(["0: a, b, c", "3: d"]);
    expect(await read(5n)).toEqual(["0: a, b, c", "3: d, e"]);
    expect(await read(0n)).toEqual(["0: a, b, c", "3: d, e"]);
    expect(await read(2n ** 53n - 1n)).toEqual(["0: a, b, c", "3: d, e"]);
    const following = new Taker(data.read({ stream, maxRecords: 6n, follow: true, from: { case: "seq", value: 4n } }));
    expect(line(await following.take())).toBe("4: e");
    expect(line(await following.take())).toBe("caught_up 5");
    for (let i = 5; i < 12; i++) await put(data, stream, `r${i}`);
    const rest = (await following.rest()).filter(({ message }) => message.case === "batch").map(line);
    expect(rest).toEqual(["5: r5", "6: r6", "7: r7", "8: r8", "9: r9"]);
  });

  it("ends before max_bytes would be exceeded, but the first record always comes", async () => {
    const data = useData();
    const stream = newName();
    await put(data, stream, "0123456789", "01234");
    await put(data, stream, "0123456789");
    const sizes = async (maxBytes: bigint, seq = 0n): Promise<number[]> =>
      (await collect(data.read({ stream, maxBytes, from: { case: "seq", value: seq } }))).flatMap(({ message }) =>
        message.case === "batch" ? message.value.records.map((record) => record.data.byteLength) : [],
      );
    expect(await sizes(1n)).toEqual([10]);
    expect(await sizes(14n)).toEqual([10]);
    expect(await sizes(15n)).toEqual([10, 5]);
    expect(await sizes(24n)).toEqual([10, 5]);
    expect(await sizes(25n)).toEqual([10, 5, 10]);
    expect(await sizes(0n)).toEqual([10, 5, 10]);
    expect(await sizes(4n, 1n)).toEqual([5]);
  });

  it("sends nothing for an empty range, and that is no error", async () => {
    const data = useData();
    const stream = newName();
    await data.createStream({ name: stream });
    expect(await collect(data.read({ stream }))).toEqual([]);
    expect(await collect(data.read({ stream, from: { case: "seq", value: 0n } }))).toEqual([]);
    expect(await collect(data.read({ stream, from: { case: "tailOffset", value: 9n } }))).toEqual([]);
    await put(data, stream, "a");
    await data.trimStream({ name: stream, beforeSeq: 1n });
    expect(await collect(data.read({ stream }))).toEqual([]);
  });

  it("is OUT_OF_RANGE below the head and beyond the tail, with both in the detail", async () => {
    const data = useData();
    const stream = newName();
    await put(data, stream, "a", "b", "c", "d");
    await data.trimStream({ name: stream, beforeSeq: 2n });
    for (const seq of [0n, 1n, 5n, 2n ** 53n - 1n]) {
      for (const follow of [false, true]) {
        const error = await failureOf(collect(data.read({ stream, follow, from: { case: "seq", value: seq } })));
        expect(error.code).toBe(Code.OutOfRange);
        expect(dataErrorOf(error)).toMatchObject({ reason: Reason.POSITION_OUT_OF_RANGE, stream, head: 2n, tail: 4n });
      }
    }
    const beyond = await failureOf(collect(data.read({ stream, from: { case: "seq", value: 2n ** 64n - 1n } })));
    expect(beyond.code).toBe(Code.InvalidArgument);
    expect(beyond.rawMessage).toContain("seq must be below 2^53");
  });

  it("is NOT_FOUND for a stream that does not exist", async () => {
    const stream = newName();
    for (const from of [{ case: undefined }, { case: "seq", value: 0n }, { case: "tailOffset", value: 1n }] as const) {
      const error = await failureOf(collect(useData().read({ stream, from })));
      expect(error.code).toBe(Code.NotFound);
      expect(dataErrorOf(error)).toMatchObject({ reason: Reason.STREAM_NOT_FOUND, stream });
    }
  });

  it("says caught_up each time it has reached the tail after having been behind", async () => {
    const data = useData();
    const stream = newName();
    await put(data, stream, "a", "b");
    const following = new Taker(data.read({ stream, follow: true }));
    const lines = async (count: number): Promise<string[]> => {
      const taken: string[] = [];
      while (taken.length < count) taken.push(line(await following.take()));
      return taken;
    };
    expect(await lines(2)).toEqual(["0: a, b", "caught_up 2"]);
    await put(data, stream, "c");
    expect(await lines(2)).toEqual(["2: c", "caught_up 3"]);
    await put(data, stream, "d", "e");
    expect(await lines(2)).toEqual(["3: d, e", "caught_up 5"]);
  });

  it("says caught_up at once when there is nothing to read", async () => {
    const data = useData();
    const stream = newName();
    await data.createStream({ name: stream });
    const following = new Taker(data.read({ stream, follow: true }));
    expect(line(await following.take())).toBe("caught_up 0");
  });

  it("ends with sealed, following or not, and however empty the stream is", async () => {
    const data = useData();
    const stream = newName();
    await put(data, stream, "a");
    const following = new Taker(data.read({ stream, follow: true }));
    expect([line(await following.take()), line(await following.take())]).toEqual(["0: a", "caught_up 1"]);
    const sha256 = createHash("sha256").update("a").digest();
    await data.sealStream({ name: stream, sha256 });
    const [sealed, ...others] = await following.rest();
    expect(others).toEqual([]);
    expect(sealed?.message.case).toBe("sealed");
    if (sealed?.message.case === "sealed") expect(Buffer.from(sealed.message.value.sha256)).toEqual(sha256);
    for (const follow of [false, true]) {
      expect((await collect(data.read({ stream, follow }))).map(line)).toEqual(["0: a", "sealed 1"]);
      const atTail = data.read({ stream, follow, from: { case: "seq", value: 1n } });
      expect((await collect(atTail)).map(line)).toEqual(["sealed 1"]);
    }
    const empty = newName();
    await data.createStream({ name: empty });
    await data.sealStream({ name: empty });
    expect((await collect(data.read({ stream: empty, follow: true }))).map(line)).toEqual(["sealed 0"]);
  });

  it("ends with NOT_FOUND when the stream is deleted while it follows", async () => {
    const data = useData();
    const stream = newName();
    await put(data, stream, "a");
    const following = new Taker(data.read({ stream, follow: true }));
    expect([line(await following.take()), line(await following.take())]).toEqual(["0: a", "caught_up 1"]);
    await data.deleteStream({ name: stream });
    const error = await failureOf(following.take());
    expect(error.code).toBe(Code.NotFound);
    expect(dataErrorOf(error).reason).toBe(Reason.STREAM_NOT_FOUND);
  });

  it("follows on when what it has read is trimmed", async () => {
    const data = useData();
    const stream = newName();
    await put(data, stream, "a", "b");
    const following = new Taker(data.read({ stream, follow: true }));
    expect([line(await following.take()), line(await following.take())]).toEqual(["0: a, b", "caught_up 2"]);
    await data.trimStream({ name: stream, beforeSeq: 2n });
    await put(data, stream, "c");
    expect([line(await following.take()), line(await following.take())]).toEqual(["2: c", "caught_up 3"]);
  });

  it("loses nothing, and sends nothing twice, while records arrive during the replay", async () => {
    const data = useData();
    const stream = newName();
    const batches = 120;
    const texts = (batch: number): string[] => [0, 1, 2, 3, 4].map((i) => `${batch}-${i} ${"x".repeat(1000)}`);
    for (let i = 0; i < batches / 2; i++) await put(data, stream, ...texts(i));
    const appended = (async () => {
      for (let i = batches / 2; i < batches; i++) await put(data, stream, ...texts(i));
      await data.sealStream({ name: stream });
    })();
    const got: string[] = [];
    for await (const { message } of data.read({ stream, follow: true })) {
      if (message.case !== "batch") continue;
      expect(message.value.firstSeq).toBe(BigInt(got.length));
      got.push(...textsOf(message.value));
    }
    await within(10_000, "the appends", appended);
    expect(got).toEqual(Array.from({ length: batches }, (_, i) => texts(i)).flat());
  });
});

it("heartbeats come at the server's interval, or at the one that was asked for, with the tail", async () => {
  const often = useClient(DataService, (await useServer({ heartbeatInterval: 50 })).url);
  await put(often, "s", "a", "b");
  const following = new Taker(often.read({ stream: "s", follow: true }));
  expect(line(await following.take())).toBe("0: a, b");
  expect(line(await following.take())).toBe("caught_up 2");
  expect(line(await following.take())).toBe("heartbeat 2");
  expect(line(await following.take())).toBe("heartbeat 2");
  await put(often, "s", "c");
  // Heartbeats may have left before the record.
  const next: string[] = [];
  while (next.at(-1) !== "caught_up 3") next.push(line(await following.take()));
  expect(next.filter((each) => each !== "heartbeat 2")).toEqual(["2: c", "caught_up 3"]);

  const never = useClient(DataService, (await useServer({ heartbeatInterval: 3_600_000 })).url);
  await never.createStream({ name: "s" });
  const asked = new Taker(never.read({ stream: "s", follow: true, heartbeatInterval: { seconds: 1n } }));
  expect(line(await asked.take())).toBe("caught_up 0");
  expect(line(await asked.take())).toBe("heartbeat 0");
});
