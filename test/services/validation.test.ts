import { Code } from "@connectrpc/connect";
import type { ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ViolationsSchema } from "../../gen/buf/validate/validate_pb.ts";
import { DataService } from "../../gen/data/v1/data_pb.ts";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import type { Server } from "../../src/compose.ts";
import { Taker, collect, failureOf, h2c, requests, useClient } from "../support/calls.ts";
import { append, line, open, recordsOf } from "../support/data-calls.ts";
import { startServer } from "../support/server.ts";
import type { ExchangeInit, UploadInit } from "../support/data-calls.ts";

/** `field.path: rule.id` of each violation in the details. */
function violationsOf(error: ConnectError): string[] {
  expect(error.code, error.message).toBe(Code.InvalidArgument);
  return error.findDetails(ViolationsSchema).flatMap(({ violations }) =>
    violations.map(({ field, ruleId }) => {
      const path = field?.elements.map(({ fieldName }) => fieldName).join(".") ?? "";
      return `${path}: ${ruleId}`;
    }),
  );
}

/** So many entries of metadata. */
function entries(count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, ""]));
}

for (const lane of [h2c.connect, h2c.grpc]) {
  describe(`validation over ${lane.protocol}`, () => {
    let server: Server;
    beforeAll(async () => {
      server = await startServer();
    });
    afterAll(() => server.close());
    const useData = () => useClient(DataService, server.url, lane);
    const useGreet = () => useClient(GreetService, server.url, lane);

    const badName = "Not A Name";
    const producer = { id: "x".repeat(129), epoch: 0n };

    it("unary: names every field and rule that is broken", async () => {
      const data = useData();
      const records = recordsOf("a");
      for (const [call, expected] of [
        [() => data.createStream({ name: badName }), ["name: string.pattern"]],
        [
          () => data.createStream({ name: "s", retention: { maxAge: { seconds: -1n } } }),
          ["retention.max_age: duration.gte_lte"],
        ],
        [() => data.createStream({ name: "s", metadata: { Kind: "y" } }), ["metadata: string.pattern"]],
        [() => data.createStream({ name: "s", metadata: { a: "x".repeat(1025) } }), ["metadata: string.max_bytes"]],
        [() => data.createStream({ name: "s", metadata: entries(33) }), ["metadata: map.max_pairs"]],
        [
          () => data.createStream({ name: "s", retention: { maxAge: { seconds: 9_000_000_001n } } }),
          ["retention.max_age: duration.gte_lte"],
        ],
        [
          () => data.updateStream({ name: "s", retention: { maxAge: { seconds: 2n ** 63n - 1n } } }),
          ["retention.max_age: duration.gte_lte"],
        ],
        [
          () => data.updateStream({ name: badName, retention: { maxAge: { seconds: -1n } } }),
          ["name: string.pattern", "retention.max_age: duration.gte_lte"],
        ],
        [() => data.trimStream({ name: "s", expectedUid: "x".repeat(65) }), ["expected_uid: string.max_bytes"]],
        [() => data.listStreams({ pageSize: 1001 }), ["page_size: int32.gte_lte"]],
        [() => data.listStreams({ pageSize: -1 }), ["page_size: int32.gte_lte"]],
        [() => data.append({ stream: badName }), ["stream: string.pattern", ": append.seal"]],
        [() => data.append({ stream: "s", records, sha256: new Uint8Array(32) }), [": append.seal"]],
        [() => data.append({ stream: "s", seal: true, sha256: new Uint8Array(31) }), ["sha256: bytes.len"]],
        [() => data.append({ stream: "s", records, producerSeq: 0n }), [": append.producer_seq"]],
        [() => data.append({ stream: "s", records, producer: { id: "p" } }), [": append.producer_seq"]],
        [() => data.append({ stream: "s", records, producer, producerSeq: 0n }), ["producer.id: string.max_bytes"]],
        [() => data.sealStream({ name: "s", sha256: new Uint8Array(31) }), ["sha256: sha256.length"]],
        [() => useGreet().greet({ name: "x".repeat(101) }), ["name: string.max_len"]],
      ] as const) {
        expect(violationsOf(await failureOf(call())).sort()).toEqual([...expected].sort());
      }
    });

    it("server streaming: refuses the request", async () => {
      for (const seconds of [0n, 3601n]) {
        const read = useData().read({ stream: "s", follow: true, heartbeatInterval: { seconds } });
        expect(violationsOf(await failureOf(collect(read)))).toEqual(["heartbeat_interval: duration.gte_lte"]);
      }
      const greetings = useGreet().greetRepeatedly({ name: "Ada", times: -1, interval: { seconds: 3601n } });
      expect(violationsOf(await failureOf(collect(greetings))).sort()).toEqual([
        "interval: duration.gte_lte",
        "times: int32.gte_lte",
      ]);
    });

    it("client streaming: refuses the first message, or a later one and what follows it", async () => {
      const data = useData();
      for (const [name, messages, expected, tail] of [
        ["up/first", [open({ stream: badName, createIfMissing: true })], "open.stream: string.pattern"],
        ["up/oneof", [{}], "message: required"],
        ["up/later", [append({ records: recordsOf("a") }), append({})], "append: append.empty", 1n],
        [
          "up/sha",
          [append({ records: recordsOf("a"), seal: true, sha256: new Uint8Array(3) })],
          "append.sha256: sha256.length",
          0n,
        ],
        ["up/only", [append({ records: recordsOf("a"), sha256: new Uint8Array(32) })], "append: append.sha256", 0n],
      ] satisfies [string, UploadInit[], string, bigint?][]) {
        const all: UploadInit[] = [...(tail === undefined ? [] : [open({ stream: name, createIfMissing: true })])];
        all.push(...messages, append({ records: recordsOf("never") }));
        expect(violationsOf(await failureOf(data.upload(requests(...all).ended())))).toEqual([expected]);
        if (tail !== undefined) expect((await data.getStream({ name })).stream?.tail).toBe(tail);
      }
      const names = requests({ name: "Ada" }, { name: "" }).ended();
      expect(violationsOf(await failureOf(useGreet().greetAll(names)))).toEqual(["name: string.min_len"]);
    });

    it("bidi: refuses the first message", async () => {
      const [data, greet] = [useData(), useGreet()];
      const opens = requests<ExchangeInit>(open({ stream: badName, createIfMissing: true }));
      expect(violationsOf(await failureOf(collect(data.exchange(opens))))).toEqual(["open.stream: string.pattern"]);
      const reads = requests<ExchangeInit>({
        message: { case: "open", value: { stream: "s", read: { heartbeatInterval: {} } } },
      });
      expect(violationsOf(await failureOf(collect(data.exchange(reads))))).toEqual([
        "open.read.heartbeat_interval: duration.gte_lte",
      ]);
      const names = requests({ name: "" });
      expect(violationsOf(await failureOf(collect(greet.greetEach(names))))).toEqual(["name: string.min_len"]);
    });

    it("bidi: refuses a later message, after the answers to those before, while the client is still sending", async () => {
      const [data, greet] = [useData(), useGreet()];
      const calls = requests<ExchangeInit>(
        open({ stream: "bidi/later", createIfMissing: true }),
        append({ records: recordsOf("a") }),
        append({ records: [] }),
        append({ records: recordsOf("never") }),
      );
      const answers = new Taker(data.exchange(calls));
      expect([line(await answers.take()), line(await answers.take())]).toEqual(["opened 0", "ack 0-1"]);
      expect(violationsOf(await failureOf(answers.take()))).toEqual(["append: append.empty"]);
      expect((await data.getStream({ name: "bidi/later" })).stream?.tail).toBe(1n);

      const greetings = new Taker(greet.greetEach(requests({ name: "Ada" }, { name: "" }, { name: "Grace" })));
      expect((await greetings.take()).greeting).toBe("Hello, Ada!");
      expect(violationsOf(await failureOf(greetings.take()))).toEqual(["name: string.min_len"]);
    });
  });
}
