import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import type { DataExchange, ExchangeEvent } from "../../src/client/index.ts";
import { reasonOf } from "../support/data-errors.ts";
import { within } from "../support/deadline.ts";
import { useServer } from "../support/server.ts";
import { storedTexts, useSluiceClient } from "../support/sluice-client.ts";

const next = (events: AsyncIterator<ExchangeEvent>): Promise<IteratorResult<ExchangeEvent>> =>
  within(10_000, "the next event", events.next());

/** Takes events until the last, as text. */
async function restOf(events: AsyncIterable<ExchangeEvent>): Promise<string[]> {
  const texts: string[] = [];
  for await (const event of events) texts.push(textOf(event));
  return texts;
}

function textOf(event: ExchangeEvent): string {
  if (event.kind === "record") return `${event.record.seq}: ${Buffer.from(event.record.data).toString()}`;
  return `${event.kind} ${event.tail}`;
}

/** Lets the events be taken by nobody in particular. */
function drain(exchange: DataExchange): void {
  restOf(exchange.events).catch(() => undefined);
}

describe("the typed client's exchange", () => {
  it("acks what it sends in order, with the stream's uid, and ends after the last", async () => {
    const { data } = useSluiceClient((await useServer()).url);
    const exchange = data.exchange("s", { createIfMissing: true });
    const events = restOf(exchange.events);
    const acks = await within(
      10_000,
      "the acks",
      Promise.all(["a", "b", "c"].map((text) => exchange.send([{ data: text }, { data: `${text}'` }]))),
    );
    const { uid } = await data.getStream("s");
    expect(acks).toMatchObject([0n, 2n, 4n].map((firstSeq) => ({ firstSeq, nextSeq: firstSeq + 2n, uid })));
    exchange.end();
    expect(await within(10_000, "the end", events)).toEqual(["opened 0"]);
    await expect(exchange.send([{ data: "late" }])).rejects.toMatchObject({ code: Code.Canceled });
  });

  it("makes no stream unless it is asked to", async () => {
    const { data } = useSluiceClient((await useServer()).url);
    for (const options of [{}, { producerId: "p" }]) {
      const exchange = data.exchange("absent", options);
      expect(await reasonOf(exchange.events[Symbol.asyncIterator]().next())).toBe("STREAM_NOT_FOUND");
    }
  });

  it("tells where it reads: the records, the tail, what others append, and the seal", async () => {
    const client = useSluiceClient((await useServer()).url);
    const { data } = client;
    await data.append("s", [{ data: "a" }, { data: "b" }], { createIfMissing: true });
    const exchange = data.exchange("s", { read: { from: { seq: 1 } } });
    const events = exchange.events[Symbol.asyncIterator]();
    const taken = [await next(events), await next(events), await next(events)];
    expect(taken.map(({ value }) => textOf(value as ExchangeEvent))).toEqual(["opened 2", "1: b", "caughtUp 2"]);
    exchange.end();
    await data.append("s", [{ data: "c" }]);
    expect(textOf((await next(events)).value as ExchangeEvent)).toBe("2: c");
    await data.sealStream("s");
    expect(await within(10_000, "the end", restOf(exchange.events))).toEqual(["caughtUp 3", "sealed 3"]);
  });

  it("that does not follow ends behind the last record", async () => {
    const { data } = useSluiceClient((await useServer()).url);
    await data.append("s", [{ data: "a" }], { createIfMissing: true });
    const exchange = data.exchange("s", { read: { follow: false } });
    exchange.end();
    expect(await within(10_000, "the end", restOf(exchange.events))).toEqual(["opened 1", "0: a"]);
  });

  it("sends heartbeats as often as it is asked to", async () => {
    const { data } = useSluiceClient((await useServer()).url);
    const exchange = data.exchange("s", { createIfMissing: true, read: { heartbeatIntervalMs: 1000 } });
    const events = exchange.events[Symbol.asyncIterator]();
    const taken = [await next(events), await next(events), await next(events)];
    expect(taken.map(({ value }) => textOf(value as ExchangeEvent))).toEqual(["opened 0", "caughtUp 0", "heartbeat 0"]);
    exchange.close();
  });

  it("with an epoch of the program's own stores the same batches once", async () => {
    const client = useSluiceClient((await useServer()).url);
    for (const duplicate of [false, true]) {
      const exchange = client.data.exchange("s", { createIfMissing: true, producerId: "p", epoch: 3 });
      drain(exchange);
      const acks = await within(10_000, "the acks", Promise.all(["a", "b"].map((data) => exchange.send([{ data }]))));
      expect(acks).toMatchObject([
        { firstSeq: 0n, duplicate },
        { firstSeq: 1n, duplicate },
      ]);
    }
    expect(await storedTexts(client, "s")).toEqual(["a", "b"]);
  });

  it("fails what waits for an ack when it is closed, when it is left, and when its signal is aborted", async () => {
    const { data } = useSluiceClient((await useServer()).url);
    await data.createStream("s");
    const stop = new AbortController();
    const ways: [what: string, end: (exchange: DataExchange, events: AsyncIterator<ExchangeEvent>) => unknown][] = [
      ["closed", (exchange) => exchange.close()],
      ["left", (_, events) => events.return?.()],
      ["aborted", () => stop.abort()],
    ];
    for (const [what, end] of ways) {
      const exchange = data.exchange("s", { read: {}, signal: stop.signal });
      const events = exchange.events[Symbol.asyncIterator]();
      await next(events);
      await next(events);
      // Nobody takes its ack.
      const sent = exchange.send([{ data: "a" }]);
      const failed = expect(within(10_000, `the failure of what is ${what}`, sent), what).rejects.toMatchObject({
        code: Code.Canceled,
      });
      end(exchange, events);
      await next(events).catch(() => undefined);
      await failed;
      await expect(exchange.send([{ data: "late" }])).rejects.toMatchObject({ code: Code.Canceled });
    }
  });
});
