import { once } from "node:events";
import { connect } from "node:http2";
import type { ClientHttp2Session } from "node:http2";
import { expect, it, onTestFinished } from "vitest";
import { create, toBinary } from "@bufbuild/protobuf";
import { DataService, ReadRequestSchema } from "../../gen/data/v1/data_pb.ts";
import { useClient } from "../support/calls.ts";
import { until, within } from "../support/deadline.ts";
import { envelopeOf } from "../support/envelopes.ts";
import { startServerProcess } from "../support/server-process.ts";

const MiB = 1024 * 1024;
const followers = 500;
const mark = Buffer.from("a record");
const request = toBinary(
  ReadRequestSchema,
  create(ReadRequestSchema, { stream: "s", from: { case: "tailOffset", value: 0n }, follow: true }),
);

// Each wait made signals, timers and listeners of its own, and each follower a message of its own of each record.
it.each(["lmdb", "memory"])("followers hold as much after many records as before (%s)", async (store) => {
  const server = await startServerProcess(["--store", store, "--admin-port", "0"], { inspect: true });
  const data = useClient(DataService, server.url);
  await data.createStream({ name: "s" });
  let delivered = 0;

  /** Resolves when all follow. */
  async function follow(): Promise<ClientHttp2Session> {
    const session = connect(server.url);
    session.on("error", () => undefined);
    onTestFinished(() => {
      session.destroy();
    });
    const calls = Array.from({ length: followers }, async () => {
      const call = session.request({
        ":method": "POST",
        ":path": `/${DataService.typeName}/Read`,
        "content-type": "application/grpc",
        "acme-token": "sample",
        te: "trailers",
      });
      call.on("error", () => undefined);
      // A record may be cut by two chunks.
      let rest = Buffer.alloc(0);
      call.on("data", (chunk: Buffer) => {
        const bytes = Buffer.concat([rest, chunk]);
        for (let at = bytes.indexOf(mark); at >= 0; at = bytes.indexOf(mark, at + 1)) delivered++;
        rest = bytes.subarray(Math.max(0, bytes.length - mark.length + 1));
      });
      call.end(envelopeOf(request));
      // It has caught up with the tail, and says so.
      await within(20_000, "the first message", once(call, "data"));
    });
    await Promise.all(calls);
    return session;
  }

  async function append(count: number): Promise<void> {
    const before = delivered;
    for (let i = 1; i <= count; i++) {
      await data.append({ stream: "s", records: [{ data: mark }] });
      // Some alone, so that followers wait for them, and some together.
      if (i % 5 === 0) await until(20_000, "the delivery", () => delivered === before + i * followers);
    }
  }

  async function leave(session: ClientHttp2Session): Promise<void> {
    session.destroy();
    await until(20_000, "the end of every call", async () => (await server.metric("sluice_calls_active")) === 0);
  }

  // What grows once and stays (code, pools, histories of histograms) does not count; code is compiled in several steps.
  for (let i = 0; i < 2; i++) {
    const first = await follow();
    await append(100);
    await server.heldMemory();
    await leave(first);
  }
  const alone = await server.heldMemory();

  const session = await follow();
  await append(50);
  const before = await server.heldMemory();
  await append(300);
  const after = await server.heldMemory();
  // What 300 records leave at 500 followers would be seen, if it were 8 bytes each. The records themselves are in it.
  expect(after - before).toBeLessThan(MiB);
  // JavaScript's part, and that of Node's HTTP/2: 11 to 12 KiB. It was 22 KiB.
  expect((after - alone) / followers).toBeLessThan(14 * 1024);
  await leave(session);
  await until(20_000, "the followers' memory", async () => (await server.heldMemory()) - alone < 2 * MiB);
});
