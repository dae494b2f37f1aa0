import { create, toBinary } from "@bufbuild/protobuf";
import { connect } from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it, onTestFinished } from "vitest";
import { ExchangeRequestSchema } from "../../gen/data/v1/data_pb.ts";
import { createSluiceClient } from "../../src/client/index.ts";
import { until } from "../support/deadline.ts";
import { envelope, post } from "../support/raw.ts";
import { startServerProcess } from "../support/server-process.ts";

// An append that waited for its ack to be taken kept its records: 1,024 of them, each of up to 1 MiB, for each call.

const KiB = 1024;

/** More than HTTP/2 takes of the acks, and than may wait: the server stops reading before the last. */
const appends = 6000;

it("an append whose ack nobody takes does not keep its records", { timeout: 120_000 }, async () => {
  const server = await startServerProcess([], { inspect: true });
  const client = createSluiceClient({ url: server.url, token: "sample" });
  onTestFinished(() => client.close());
  // No ack is taken, so that beyond those that HTTP/2 takes they wait.
  const session = connect(server.url, { settings: { initialWindowSize: 0 }, maxSessionMemory: 1000 });
  session.on("error", () => undefined);
  onTestFinished(() => {
    session.destroy();
  });
  const { stream, head, end } = post(session, "/data.v1.DataService/Exchange", {
    "content-type": "application/grpc+proto",
    te: "trailers",
  });
  head.catch(() => undefined);
  end.catch(() => undefined);
  const send = (message: Parameters<typeof create<typeof ExchangeRequestSchema>>[1]): void => {
    stream.write(envelope(toBinary(ExchangeRequestSchema, create(ExchangeRequestSchema, message))));
  };
  const stored = async (): Promise<number> => {
    const streams = await Array.fromAsync(client.data.listStreams());
    return Number(streams.find(({ name }) => name === "s")?.tail ?? 0);
  };
  send({ message: { case: "open", value: { stream: "s", createIfMissing: true } } });
  const append = { records: [{ data: new Uint8Array(16 * KiB) }] };
  for (let i = 0; i < 100; i++) send({ message: { case: "append", value: append } });
  await until(20_000, "the first appends", async () => (await stored()) === 100);
  const before = await server.heldMemory();
  for (let i = 100; i < appends; i++) send({ message: { case: "append", value: append } });
  let last = 0;
  await until(60_000, "the server's pause", async () => {
    await sleep(1000);
    const now = await stored();
    const paused = now === last && now > 1000;
    last = now;
    return paused;
  });
  expect(last).toBeLessThan(appends);
  // It was the records of 1,024 appends: 16 MiB.
  expect((await server.heldMemory()) - before).toBeLessThan(10 * KiB * KiB);
});
