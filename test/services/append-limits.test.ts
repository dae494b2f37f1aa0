import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { DataError_Reason as Reason, DataService } from "../../gen/data/v1/data_pb.ts";
import { collect, dataErrorOf, failureOf, requests, useClient } from "../support/calls.ts";
import { append, describeOnEachStore, open, put, recordsOf, upload, exchange } from "../support/data-calls.ts";
import type { UploadInit } from "../support/data-calls.ts";
import { within } from "../support/deadline.ts";
import { useServer } from "../support/server.ts";

describeOnEachStore("bad appends", (server) => {
  const useData = () => useClient(DataService, server().url);

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
