import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { connect } from "node:http2";
import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";
import { toBinary, create } from "@bufbuild/protobuf";
import { describe, expect, it, onTestFinished } from "vitest";
import { DataService, ReadRequestSchema } from "../../gen/data/v1/data_pb.ts";
import { until, within } from "../support/deadline.ts";
import { useServer } from "../support/server.ts";
import { createTransport } from "../support/transports.ts";
import { startServerProcess } from "../support/server-process.ts";

const MiB = 1024 * 1024;

/** Opens a Read and never takes a byte of its body beyond what the window lets through. */
function stalledRead(session: ClientHttp2Session, stream: string): ClientHttp2Stream {
  const message = toBinary(ReadRequestSchema, create(ReadRequestSchema, { stream, follow: true }));
  const envelope = Buffer.alloc(5 + message.byteLength);
  envelope.writeUInt32BE(message.byteLength, 1);
  envelope.set(message, 5);
  const request = session.request({
    ":method": "POST",
    ":path": "/data.v1.DataService/Read",
    "content-type": "application/connect+proto",
    authorization: "Bearer sample",
  });
  request.on("error", () => undefined);
  request.end(envelope);
  request.pause();
  return request;
}

describe("a reader that stops reading", () => {
  for (const [what, size, perAppend] of [
    ["64 KiB records", 64 * 1024, 16],
    ["256 KiB records, as `push` makes them", 256 * 1024, 3],
  ] as const) {
    it(`holds at most 1 MiB of the server's memory: ${what}`, { timeout: 240_000 }, async () => {
      const server = await startServerProcess(["--admin-port", "0"], { inspect: true });
      const made = createTransport({ protocol: "connect", httpVersion: "2", tls: false }, server.url);
      onTestFinished(made.close);
      const data = createClient(DataService, made.transport);
      for (let i = 0; i < 32; i++) {
        const records = Array.from({ length: perAppend }, () => ({ data: new Uint8Array(size) }));
        await data.append({ stream: "s", records, createIfMissing: true });
      }
      const readers = 100;
      const session = connect(server.url);
      session.on("error", () => undefined);
      onTestFinished(() => {
        session.destroy();
      });
      // What the first readers warm up (code, pools, the store's cache) is not theirs.
      for (let i = 0; i < 10; i++) stalledRead(session, "s");
      await until(10_000, "the first readers' calls", async () => (await server.metric("sluice_calls_active")) >= 10);
      const before = await server.heldMemory();
      for (let i = 0; i < readers; i++) stalledRead(session, "s");
      await until(
        20_000,
        "every reader's call",
        async () => (await server.metric("sluice_calls_active")) >= readers + 10,
      );
      const after = await server.heldMemory();
      expect((after - before) / readers).toBeLessThan(MiB);
    });
  }

  it("reads on from the store when it comes back", async () => {
    const server = await useServer();
    const made = createTransport({ protocol: "connect", httpVersion: "2", tls: false }, server.url);
    onTestFinished(made.close);
    const data = createClient(DataService, made.transport);
    const records = Array.from({ length: 16 }, () => ({ data: new Uint8Array(64 * 1024) }));
    for (let i = 0; i < 16; i++) await data.append({ stream: "s", records, createIfMissing: true });
    const it_ = data.read({ stream: "s" })[Symbol.asyncIterator]();
    const first = await it_.next();
    // The reader pauses while the stream grows and its old records leave.
    for (let i = 0; i < 16; i++) await data.append({ stream: "s", records });
    let next = 0n;
    for (let result = first; result.done !== true; result = await within(10_000, "the next batch", it_.next())) {
      const message = result.value.message;
      if (message.case !== "batch") continue;
      expect(message.value.firstSeq).toBe(next);
      next += BigInt(message.value.records.length);
    }
    expect(next).toBeGreaterThanOrEqual(256n);
  });

  it("is told when what it has not read yet has been trimmed away", async () => {
    const server = await useServer();
    const made = createTransport({ protocol: "connect", httpVersion: "2", tls: false }, server.url);
    onTestFinished(made.close);
    const data = createClient(DataService, made.transport);
    const records = Array.from({ length: 16 }, () => ({ data: new Uint8Array(64 * 1024) }));
    for (let i = 0; i < 64; i++) await data.append({ stream: "s", records, createIfMissing: true });
    const it_ = data.read({ stream: "s" })[Symbol.asyncIterator]();
    await it_.next();
    await data.trimStream({ name: "s", beforeSeq: 1000n });
    let error: unknown;
    try {
      for (;;) if ((await within(10_000, "the next message", it_.next())).done === true) break;
    } catch (reason) {
      error = reason;
    }
    expect(ConnectError.from(error).code).toBe(Code.OutOfRange);
  });
});
