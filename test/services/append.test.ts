import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { DataError_Reason as Reason, DataService, Durability } from "../../gen/data/v1/data_pb.ts";
import { Taker, dataErrorOf, failureOf, requests, useClient } from "../support/calls.ts";
import { append, describeOnEachStore, line, open, put, recordsOf, stored, upload } from "../support/data-calls.ts";
import type { UploadInit } from "../support/data-calls.ts";

let streams = 0;
const newName = (): string => `append/${++streams}`;

describeOnEachStore("appends", (server) => {
  const useData = () => useClient(DataService, server().url);

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
      // With nothing stored, both are the tail, and not where the repeats were.
      expect(await upload(data, ...first)).toMatchObject({
        firstSeq: 5n,
        nextSeq: 5n,
        records: 0n,
        duplicateBatches: 2n,
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
});
