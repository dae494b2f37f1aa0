import { Code } from "@connectrpc/connect";
import { createHash } from "node:crypto";
import { expect, it } from "vitest";
import { DataError_Reason as Reason, DataService } from "../../gen/data/v1/data_pb.ts";
import { Taker, collect, dataErrorOf, failureOf, requests, useClient } from "../support/calls.ts";
import {
  append,
  describeOnEachStore,
  line,
  open,
  put,
  recordsOf,
  stored,
  upload,
  exchange,
} from "../support/data-calls.ts";
import type { UploadInit } from "../support/data-calls.ts";

let streams = 0;
const newName = (): string => `seal/${++streams}`;

function sha256(...texts: string[]): Buffer {
  const hash = createHash("sha256");
  for (const text of texts) hash.update(text);
  return hash.digest();
}

describeOnEachStore("seals", (server) => {
  const useData = () => useClient(DataService, server().url);

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
