import { Code } from "@connectrpc/connect";
import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { DataError_Reason as Reason, DataService, Durability } from "../../gen/data/v1/data_pb.ts";
import { Taker, collect, dataErrorOf, failureOf, requests, useClient } from "../support/calls.ts";
import { append, describeOnEachStore, line, open, put, recordsOf, textsOf } from "../support/data-calls.ts";
import type { ExchangeInit, UploadInit } from "../support/data-calls.ts";
import { within } from "../support/deadline.ts";
import { useServer } from "../support/server.ts";

let streams = 0;
const newName = (): string => `append/${++streams}`;

function sha256(...texts: string[]): Buffer {
  const hash = createHash("sha256");
  for (const text of texts) hash.update(text);
  return hash.digest();
}

describeOnEachStore("appends", (server) => {
  const useData = () => useClient(DataService, server().url);
  type Data = ReturnType<typeof useData>;

  async function stored(data: Data, stream: string): Promise<string[]> {
    const messages = await collect(data.read({ stream }));
    return messages.flatMap(({ message }) => (message.case === "batch" ? textsOf(message.value) : []));
  }

  const upload = (data: Data, ...messages: UploadInit[]) => data.upload(requests(...messages).ended());
  const exchange = (data: Data, ...messages: UploadInit[]) => data.exchange(requests(...messages).ended());

  describe("Append", () => {
    it("stores a batch at the tail, creates the stream only if asked to, and says how durable it is", async () => {
      const data = useData();
      const stream = newName();
      const missing = await failureOf(data.append({ stream, records: recordsOf("a") }));
      expect(missing.code).toBe(Code.NotFound);
      expect(dataErrorOf(missing)).toMatchObject({ reason: Reason.STREAM_NOT_FOUND, stream });
      for (const says of [`"${stream}"`, "ListStreams", "sluice streams list", `sluice streams create ${stream}`]) {
        expect(missing.rawMessage).toContain(says);
      }
      expect(missing.rawMessage).toContain("create_if_missing");
      const first = await data.append({ stream, createIfMissing: true, records: recordsOf("a", "b") });
      expect(first).toMatchObject({ firstSeq: 0n, nextSeq: 2n, duplicate: false });
      expect([Durability.MEMORY, Durability.DISK]).toContain(first.durability);
      expect(await data.append({ stream, records: recordsOf("c") })).toMatchObject({ firstSeq: 2n, nextSeq: 3n });
      expect(await stored(data, stream)).toEqual(["a", "b", "c"]);
    });

    it("is FAILED_PRECONDITION at another tail than expected_seq, with the actual one in the detail", async () => {
      const data = useData();
      const stream = newName();
      await put(data, stream, "a", "b", "c");
      await data.trimStream({ name: stream, beforeSeq: 1n });
      for (const expectedSeq of [0n, 2n, 4n]) {
        const error = await failureOf(data.append({ stream, expectedSeq, records: recordsOf("x") }));
        expect(error.code).toBe(Code.FailedPrecondition);
        expect(dataErrorOf(error)).toMatchObject({ reason: Reason.SEQ_MISMATCH, stream, head: 1n, tail: 3n });
      }
      expect(await data.append({ stream, expectedSeq: 3n, records: recordsOf("d") })).toMatchObject({ firstSeq: 3n });
      expect(await stored(data, stream)).toEqual(["b", "c", "d"]);
    });

    it("answers a producer's repeat with the positions of then, also on a sealed stream and at another tail", async () => {
      const data = useData();
      const stream = newName();
      const producer = { id: "p", epoch: 0n };
      const batch = { stream, producer, records: recordsOf("a", "b"), createIfMissing: true };
      expect(await data.append({ ...batch, producerSeq: 0n, expectedSeq: 0n })).toMatchObject({ duplicate: false });
      expect(await data.append({ ...batch, producerSeq: 1n })).toMatchObject({ firstSeq: 2n, duplicate: false });
      const again = { firstSeq: 0n, nextSeq: 2n, duplicate: true };
      expect(await data.append({ ...batch, producerSeq: 0n, expectedSeq: 0n })).toMatchObject(again);
      await data.sealStream({ name: stream });
      expect(await data.append({ ...batch, producerSeq: 0n, expectedSeq: 0n })).toMatchObject(again);
      const sealed = await failureOf(data.append({ ...batch, producerSeq: 2n }));
      expect(sealed.code).toBe(Code.FailedPrecondition);
      expect(dataErrorOf(sealed)).toMatchObject({ reason: Reason.STREAM_SEALED, tail: 4n });
      expect(await stored(data, stream)).toEqual(["a", "b", "a", "b"]);
    });

    it("fails on a gap with the next producer_seq, and on an epoch that is over with the current one", async () => {
      const data = useData();
      const stream = newName();
      const batch = { stream, records: recordsOf("a"), createIfMissing: true };
      await data.append({ ...batch, producer: { id: "p", epoch: 0n }, producerSeq: 0n });
      const gap = await failureOf(data.append({ ...batch, producer: { id: "p", epoch: 0n }, producerSeq: 2n }));
      expect(gap.code).toBe(Code.FailedPrecondition);
      expect(dataErrorOf(gap)).toMatchObject({ reason: Reason.PRODUCER_GAP, nextProducerSeq: 1n });
      // A new epoch begins at 0.
      const late = await failureOf(data.append({ ...batch, producer: { id: "p", epoch: 2n }, producerSeq: 1n }));
      expect(dataErrorOf(late)).toMatchObject({ reason: Reason.PRODUCER_GAP, nextProducerSeq: 0n });
      const next = await data.append({ ...batch, producer: { id: "p", epoch: 2n }, producerSeq: 0n });
      expect(next).toMatchObject({ firstSeq: 1n, duplicate: false });
      for (const producerSeq of [0n, 1n]) {
        const over = await failureOf(data.append({ ...batch, producer: { id: "p", epoch: 0n }, producerSeq }));
        expect(over.code).toBe(Code.FailedPrecondition);
        expect(dataErrorOf(over)).toMatchObject({ reason: Reason.PRODUCER_FENCED, producerEpoch: 2n });
      }
      // Another producer is not concerned.
      await data.append({ ...batch, producer: { id: "q", epoch: 0n }, producerSeq: 0n });
      expect(await stored(data, stream)).toEqual(["a", "a", "a"]);
    });
  });

  describe("Upload", () => {
    it("sums up what it stored, and what had been stored before", async () => {
      const data = useData();
      const stream = newName();
      const producer = { id: "p", epoch: 0n };
      await put(data, stream, "before");
      const batch = (producerSeq: bigint, ...texts: string[]) => append({ producerSeq, records: recordsOf(...texts) });
      const first = [open({ stream, producer }), batch(0n, "a", "bc"), batch(1n, "d")];
      expect(await upload(data, ...first)).toMatchObject({ firstSeq: 1n, nextSeq: 4n, records: 3n, bytes: 4n });
      expect(await upload(data, ...first, batch(2n, "e"))).toMatchObject({
        firstSeq: 4n,
        nextSeq: 5n,
        records: 1n,
        bytes: 1n,
        duplicateBatches: 2n,
        sealed: false,
      });
      const none = await upload(data, open({ stream }));
      expect(none).toMatchObject({ firstSeq: 5n, nextSeq: 5n, records: 0n, bytes: 0n, duplicateBatches: 0n });
      expect(await stored(data, stream)).toEqual(["before", "a", "bc", "d", "e"]);
    });

    it("creates the stream only if asked to", async () => {
      const data = useData();
      const stream = newName();
      const missing = await failureOf(upload(data, open({ stream }), append({ records: recordsOf("a") })));
      expect(missing.code).toBe(Code.NotFound);
      await upload(data, open({ stream, createIfMissing: true }));
      expect((await data.getStream({ name: stream })).stream).toMatchObject({ head: 0n, tail: 0n, sealed: false });
    });

    it("after the first failed batch stores nothing of what follows, and tells that failure", async () => {
      const data = useData();
      const stream = newName();
      const producer = { id: "p", epoch: 0n };
      const error = await failureOf(
        upload(
          data,
          open({ stream, createIfMissing: true, producer }),
          append({ producerSeq: 0n, records: recordsOf("a") }),
          append({ producerSeq: 2n, records: recordsOf("gap") }),
          append({ producerSeq: 1n, records: recordsOf("would fit") }),
        ),
      );
      expect(dataErrorOf(error)).toMatchObject({ reason: Reason.PRODUCER_GAP, nextProducerSeq: 1n });
      expect(await stored(data, stream)).toEqual(["a"]);
    });

    it("with expected_seq stores each batch only right behind the one before", async () => {
      const data = useData();
      const stream = newName();
      await put(data, stream, "a");
      const wrong = upload(data, open({ stream, expectedSeq: 0n }), append({ records: recordsOf("x") }));
      expect(dataErrorOf(await failureOf(wrong))).toMatchObject({ reason: Reason.SEQ_MISMATCH, tail: 1n });
      const calls = requests<UploadInit>(open({ stream, expectedSeq: 1n }), append({ records: recordsOf("b") }));
      const acks = new Taker(data.exchange(calls));
      expect([line(await acks.take()), line(await acks.take())]).toEqual(["opened 1", "ack 1-2"]);
      await put(data, stream, "another's");
      await calls.push(append({ records: recordsOf("c") }));
      const error = await failureOf(acks.take());
      expect(dataErrorOf(error)).toMatchObject({ reason: Reason.SEQ_MISMATCH, tail: 3n });
      expect(await stored(data, stream)).toEqual(["a", "b", "another's"]);
    });
  });

  describe("a seal", () => {
    it("with the SHA-256 of what the upload stored ends the stream together with the last batch", async () => {
      const data = useData();
      const stream = newName();
      await put(data, stream, "before");
      const hash = sha256("a", "b", "c");
      const summary = await upload(
        data,
        open({ stream }),
        append({ records: recordsOf("a", "b") }),
        append({ records: recordsOf("c"), seal: true, sha256: hash }),
      );
      expect(summary).toMatchObject({ sealed: true, records: 3n });
      expect(Buffer.from(summary.sha256)).toEqual(hash);
      const info = (await data.getStream({ name: stream })).stream;
      expect(info).toMatchObject({ sealed: true, tail: 4n, sha256FirstSeq: 1n });
      expect(Buffer.from(info?.sha256 ?? [])).toEqual(hash);
    });

    it("without records seals what is there; without a SHA-256 it checks nothing", async () => {
      const data = useData();
      const stream = newName();
      expect(await upload(data, open({ stream, createIfMissing: true }), append({ seal: true }))).toMatchObject({
        sealed: true,
        records: 0n,
      });
      expect((await data.getStream({ name: stream })).stream).toMatchObject({ sealed: true, tail: 0n });
    });

    it("that does not fit is refused: neither the last batch is stored nor the stream sealed", async () => {
      const data = useData();
      for (const call of [upload, async (...args: Parameters<typeof exchange>) => collect(exchange(...args))]) {
        const stream = newName();
        const error = await failureOf(
          call(
            data,
            open({ stream, createIfMissing: true }),
            append({ records: recordsOf("a") }),
            append({ records: recordsOf("b"), seal: true, sha256: sha256("something else") }),
          ),
        );
        expect(error.code).toBe(Code.FailedPrecondition);
        const detail = dataErrorOf(error);
        expect(detail).toMatchObject({ reason: Reason.CHECKSUM_MISMATCH, stream });
        expect(Buffer.from(detail.sha256)).toEqual(sha256("a", "b"));
        expect((await data.getStream({ name: stream })).stream).toMatchObject({ sealed: false, tail: 1n });
        expect(await stored(data, stream)).toEqual(["a"]);
      }
    });

    it("of a producer that resumes covers what it stored before, also with another's records between", async () => {
      const data = useData();
      const stream = newName();
      const producer = { id: "p", epoch: 3n };
      await put(data, stream, "before");
      await upload(data, open({ stream, producer }), append({ producerSeq: 0n, records: recordsOf("a", "b") }));
      const resumed = (hash: Uint8Array) => [
        open({ stream, producer }),
        append({ producerSeq: 0n, records: recordsOf("a", "b") }),
        append({ producerSeq: 1n, records: recordsOf("c") }),
        append({ producerSeq: 2n, records: recordsOf("d"), seal: true, sha256: hash }),
      ];
      const wrong = await failureOf(upload(data, ...resumed(sha256("c", "d"))));
      expect(dataErrorOf(wrong)).toMatchObject({ reason: Reason.CHECKSUM_MISMATCH });
      expect(await upload(data, ...resumed(sha256("a", "b", "c", "d")))).toMatchObject({ sealed: true, records: 1n });
      // The answer to the sealing batch can be lost: the same again succeeds.
      const again = await upload(data, ...resumed(sha256("a", "b", "c", "d")));
      expect(again).toMatchObject({ sealed: true, records: 0n, duplicateBatches: 3n });
      expect((await data.getStream({ name: stream })).stream).toMatchObject({ sealed: true, sha256FirstSeq: 1n });
      expect(await stored(data, stream)).toEqual(["before", "a", "b", "c", "d"]);
    });

    it("with a SHA-256 covers others' records too, so that they make it fail", async () => {
      const data = useData();
      const stream = newName();
      const calls = requests<UploadInit>(open({ stream, createIfMissing: true }), append({ records: recordsOf("a") }));
      const acks = new Taker(data.exchange(calls));
      expect([line(await acks.take()), line(await acks.take())]).toEqual(["opened 0", "ack 0-1"]);
      await put(data, stream, "another's");
      await calls.push(append({ records: recordsOf("b"), seal: true, sha256: sha256("a", "b") }));
      const error = await failureOf(acks.take());
      expect(dataErrorOf(error)).toMatchObject({ reason: Reason.CHECKSUM_MISMATCH });
      expect((await data.getStream({ name: stream })).stream).toMatchObject({ sealed: false, tail: 2n });
    });

    it("must be the last append of the call", async () => {
      const data = useData();
      const stream = newName();
      const error = await failureOf(
        upload(
          data,
          open({ stream, createIfMissing: true }),
          append({ records: recordsOf("a"), seal: true }),
          append({ records: recordsOf("b") }),
        ),
      );
      expect(error.code).toBe(Code.InvalidArgument);
      expect(error.rawMessage).toContain("must be the last one");
      expect(await stored(data, stream)).toEqual(["a"]);
    });

    it("by SealStream compares all records that are kept, and can be repeated", async () => {
      const data = useData();
      const stream = newName();
      await put(data, stream, "a", "b");
      await data.trimStream({ name: stream, beforeSeq: 1n });
      const wrong = await failureOf(data.sealStream({ name: stream, sha256: sha256("a", "b") }));
      expect(dataErrorOf(wrong)).toMatchObject({ reason: Reason.CHECKSUM_MISMATCH });
      const elsewhere = await failureOf(data.sealStream({ name: stream, expectedSeq: 1n }));
      expect(dataErrorOf(elsewhere)).toMatchObject({ reason: Reason.SEQ_MISMATCH, tail: 2n });
      expect((await data.getStream({ name: stream })).stream).toMatchObject({ sealed: false });
      for (let i = 0; i < 2; i++) {
        const { stream: info } = await data.sealStream({ name: stream, expectedSeq: 2n, sha256: sha256("b") });
        expect(info).toMatchObject({ sealed: true, sha256FirstSeq: 1n });
      }
    });
  });

  describe("Exchange", () => {
    it("acks each append in order, once it is durable, and ends after the last when the client has finished", async () => {
      const data = useData();
      const stream = newName();
      const producer = { id: "p", epoch: 0n };
      const batches = Array.from({ length: 200 }, (_, i) =>
        append({ producerSeq: BigInt(i), records: recordsOf(`${i}`, `${i}'`) }),
      );
      const messages = [open({ stream, createIfMissing: true, producer }), ...batches];
      const lines = (await collect(exchange(data, ...messages))).map(line);
      expect(lines).toEqual(["opened 0", ...batches.map((_, i) => `ack ${2 * i}-${2 * i + 2}`)]);
      const again = await collect(exchange(data, ...messages));
      expect(again.map(line)).toEqual(["opened 400", ...batches.map((_, i) => `ack ${2 * i}-${2 * i + 2} again`)]);
      const [opened] = again;
      expect(opened?.message.value).toMatchObject({ nextProducerSeq: 200n });
    });

    it("acks what came before a failure, then ends with it, and stores nothing later", async () => {
      const data = useData();
      const stream = newName();
      const producer = { id: "p", epoch: 0n };
      const batch = (producerSeq: bigint) => append({ producerSeq, records: recordsOf(`${producerSeq}`) });
      const messages = [batch(0n), batch(1n), batch(3n), batch(2n)];
      const answers = new Taker(exchange(data, open({ stream, createIfMissing: true, producer }), ...messages));
      const lines = [line(await answers.take()), line(await answers.take()), line(await answers.take())];
      expect(lines).toEqual(["opened 0", "ack 0-1", "ack 1-2"]);
      const error = await failureOf(answers.take());
      expect(dataErrorOf(error)).toMatchObject({ reason: Reason.PRODUCER_GAP, nextProducerSeq: 2n });
      expect(await stored(data, stream)).toEqual(["0", "1"]);
    });

    it("reads the stream on the same call: what was there, its own appends and others'", async () => {
      const data = useData();
      const stream = newName();
      await put(data, stream, "a", "b");
      const calls = requests<ExchangeInit>({
        message: { case: "open", value: { stream, read: { follow: true, from: { case: "seq", value: 1n } } } },
      });
      const answers = new Taker(data.exchange(calls));
      const acks: string[] = [];
      const reads: string[] = [];
      const takeUntil = async (last: string): Promise<void> => {
        for (let text = ""; text !== last;) {
          text = line(await answers.take());
          (text.startsWith("ack") ? acks : reads).push(text);
        }
      };
      await takeUntil("caught_up 2");
      await calls.push(append({ records: recordsOf("mine") }));
      await takeUntil("caught_up 3");
      await put(data, stream, "another's");
      await takeUntil("caught_up 4");
      await calls.push(append({ records: recordsOf("last"), seal: true }));
      calls.end();
      for (const text of (await answers.rest()).map(line)) (text.startsWith("ack") ? acks : reads).push(text);
      expect(acks).toEqual(["ack 2-3", "ack 4-5"]);
      expect(reads).toEqual([
        "opened 2",
        "1: b",
        "caught_up 2",
        "2: mine",
        "caught_up 3",
        "3: another's",
        "caught_up 4",
        "4: last",
        "sealed 5",
      ]);
    });

    it("without follow reads to the tail, and goes on taking appends", async () => {
      const data = useData();
      const stream = newName();
      await put(data, stream, "a");
      const calls = requests<ExchangeInit>({
        message: { case: "open", value: { stream, read: {} } },
      });
      const answers = new Taker(data.exchange(calls));
      expect([line(await answers.take()), line(await answers.take())]).toEqual(["opened 1", "0: a"]);
      await calls.push(append({ records: recordsOf("b") }));
      expect(line(await answers.take())).toBe("ack 1-2");
      calls.end();
      expect(await answers.rest()).toEqual([]);
    });

    it("ends with the read's failure when it cannot begin", async () => {
      const data = useData();
      const stream = newName();
      await put(data, stream, "a");
      const error = await failureOf(
        collect(
          data.exchange(
            requests({
              message: {
                case: "open" as const,
                value: { stream, read: { from: { case: "seq" as const, value: 9n } } },
              },
            }),
          ),
        ),
      );
      expect(error.code).toBe(Code.OutOfRange);
      expect(dataErrorOf(error)).toMatchObject({ tail: 1n });
    });
  });

  describe("messages out of place", () => {
    const stream = "misplaced";
    const record = recordsOf("x");
    const cases: [what: string, messages: UploadInit[], says: string][] = [
      ["no message at all", [], "first message of the call must be `open`"],
      ["append first", [append({ records: record })], "first message of the call must be `open`"],
      ["two opens", [open({ stream, createIfMissing: true }), open({ stream })], "every message after `open`"],
      ["an empty batch", [open({ stream, createIfMissing: true }), append({})], "records must not be empty"],
      [
        "a producer_seq without a producer",
        [open({ stream, createIfMissing: true }), append({ records: record, producerSeq: 0n })],
        "producer_seq needs a producer",
      ],
      [
        "a producer without producer_seq",
        [open({ stream, createIfMissing: true, producer: { id: "p" } }), append({ records: record })],
        "needs a producer_seq",
      ],
      ["an empty message", [{}], "message"],
      ["a name with capitals", [open({ stream: "Not-a-name", createIfMissing: true })], "stream"],
      ["a name that is too long", [open({ stream: "a".repeat(256), createIfMissing: true })], "stream"],
      ["a name that begins with a dot", [open({ stream: "../etc", createIfMissing: true })], "stream"],
      ["no name", [open({ createIfMissing: true })], "stream"],
    ];
    for (const [what, messages, says] of cases) {
      it(`${what}: INVALID_ARGUMENT on Upload and Exchange, and nothing is stored`, async () => {
        const data = useData();
        for (const call of [upload, async (...args: Parameters<typeof exchange>) => collect(exchange(...args))]) {
          const error = await failureOf(call(data, ...messages));
          expect(error.code, error.message).toBe(Code.InvalidArgument);
          expect(error.rawMessage).toContain(says);
        }
        const { streams: found } = await data.listStreams({ prefix: stream });
        for (const each of found) expect(each.tail).toBe(0n);
        expect((await data.listStreams({ prefix: "a".repeat(255) })).streams).toEqual([]);
      });
    }

    it("names of every allowed form are taken", async () => {
      const data = useData();
      for (const name of ["0", "a", "a".repeat(255), "a.b_c/d-e", "a//b", "a/"]) {
        await upload(data, open({ stream: name, createIfMissing: true }));
        await data.deleteStream({ name });
      }
    });
  });
});

describe("the limits of a batch", () => {
  const options = { maxBatchRecords: 3, maxBatchBytes: 2048 };
  const tooMany = { records: recordsOf("a", "b", "c", "d") };
  const tooLarge = { records: [{ data: new Uint8Array(1024), headers: { key: "v".repeat(1022) } }] };
  const fits = { records: [{ data: new Uint8Array(1024), headers: { key: "v".repeat(1021) } }] };

  for (const [what, batch, ...says] of [
    ["records", tooMany, "4 records", "limit is 3", "--max-batch-records"],
    ["bytes, with the headers", tooLarge, "2049 bytes", "limit is 2048", "--max-batch-bytes"],
  ] as const) {
    it(`${what}: INVALID_ARGUMENT that says the limit and its option, and nothing is stored`, async () => {
      const data = useClient(DataService, (await useServer(options)).url);
      const first = open({ stream: "s", createIfMissing: true });
      await put(data, "s", "0");
      const calls: (() => Promise<unknown>)[] = [
        () => data.append({ stream: "s", ...batch }),
        () => data.upload(requests<UploadInit>(first, append(batch), append(fits)).ended()),
        () => collect(data.exchange(requests<UploadInit>(first, append(batch), append(fits)).ended())),
      ];
      for (const call of calls) {
        const error = await failureOf(call());
        expect(error.code).toBe(Code.InvalidArgument);
        expect(dataErrorOf(error)).toMatchObject({ reason: Reason.BATCH_TOO_LARGE, stream: "s" });
        for (const each of says) expect(error.rawMessage).toContain(each);
      }
      expect((await data.getStream({ name: "s" })).stream?.tail).toBe(1n);
      await within(5000, "a batch at the limit", data.append({ stream: "s", ...fits }));
    });
  }
});
