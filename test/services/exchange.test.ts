import { Code } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { DataError_Reason as Reason, DataService } from "../../gen/data/v1/data_pb.ts";
import { Taker, collect, dataErrorOf, failureOf, requests, useClient } from "../support/calls.ts";
import { append, describeOnEachStore, line, open, put, recordsOf, stored, exchange } from "../support/data-calls.ts";
import type { ExchangeInit } from "../support/data-calls.ts";

let streams = 0;
const newName = (): string => `exchange/${++streams}`;

describeOnEachStore("exchanges", (server) => {
  const useData = () => useClient(DataService, server().url);

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
