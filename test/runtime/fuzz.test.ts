import { create, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { once } from "node:events";
import { connect } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { GreetAllRequestSchema, GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { random } from "../support/cutting-proxy.ts";
import { until, within } from "../support/deadline.ts";
import { cut, envelopeOf } from "../support/envelopes.ts";
import { createRawClient } from "../support/raw-call.ts";
import type { RawCall } from "../support/raw-call.ts";
import { startServerProcess } from "../support/server-process.ts";
import { createTransport } from "../support/transports.ts";

/** Give it again to see the same requests. */
const seed = Number(process.env["SLUICE_TEST_SEED"] ?? Date.now() % 2 ** 31);
const requests = Number(process.env["SLUICE_TEST_FUZZ_REQUESTS"] ?? 1500);

type Random = () => number;

function pick<T>(next: Random, items: readonly T[]): T {
  return items[Math.floor(next() * items.length)] as T;
}

function bytes(next: Random, most: number): Buffer {
  return Buffer.from(Array.from({ length: Math.floor(next() * most) }, () => Math.floor(next() * 256)));
}

const paths = [
  "greet.v1.GreetService/Greet",
  "greet.v1.GreetService/GreetAll",
  "greet.v1.GreetService/GreetRepeatedly",
  "greet.v1.GreetService/GreetEach",
  "data.v1.DataService/Upload",
  "data.v1.DataService/Read",
  "data.v1.DataService/Exchange",
  "grpc.health.v1.Health/Watch",
  "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
  "greet.v1.GreetService/NoSuch",
  "",
  "%",
];
const contentTypes = ["connect+", "grpc+", "grpc-web+", "grpc-web-text+", ""].flatMap((protocol) =>
  ["proto", "json", "xml"].map((codec) => `application/${protocol}${codec}`),
);
const values = ["gzip", "br", "identity", "rot13", "", "-1", "1", "99999999999", "1S", "0n", "é", "a,b;q=0"];
const names = [
  "connect-content-encoding",
  "connect-accept-encoding",
  "grpc-encoding",
  "grpc-accept-encoding",
  "content-encoding",
  "connect-timeout-ms",
  "grpc-timeout",
  "connect-protocol-version",
  "x-data-bin",
];
const json = ['{"name":"Ada"}', "{", "null", '{"name":5}', '{"times":1e999}', "[".repeat(10_000), '"\ud800"', ""];

function payloadOf(next: Random): Uint8Array {
  switch (Math.floor(next() * 4)) {
    case 0:
      return toBinary(GreetAllRequestSchema, create(GreetAllRequestSchema, { name: "Ada" }));
    case 1:
      return Buffer.from(pick(next, json));
    case 2:
      // The head of a gzip file, and then no gzip.
      return Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0]), bytes(next, 200)]);
    default:
      return bytes(next, 2000);
  }
}

/** Some envelopes; then a few bytes are changed, left out or added. */
function bodyOf(next: Random): Buffer {
  const envelopes = Array.from({ length: Math.floor(next() * 5) }, () => {
    const payload = payloadOf(next);
    const length = next() < 0.2 ? pick(next, [0, 1, 0x7fffffff, 0xffffffff, 4 * 1024 * 1024]) : payload.byteLength;
    return envelopeOf(payload, pick(next, [0, 0, 0, 1, 2, 3, 0x80, 0xff]), length);
  });
  const body = next() < 0.1 ? bytes(next, 5000) : Buffer.concat(envelopes);
  for (let i = 0; next() < 0.3 && i < 5 && body.byteLength > 0; i++) {
    body[Math.floor(next() * body.byteLength)] = Math.floor(next() * 256);
  }
  return next() < 0.2 ? body.subarray(0, Math.floor(next() * body.byteLength)) : body;
}

function requestOf(next: Random): RawCall {
  const headers: Record<string, string> = {};
  if (next() < 0.95) headers["content-type"] = pick(next, contentTypes);
  if (next() < 0.95) headers["authorization"] = "Bearer sample";
  for (let i = 0; next() < 0.4 && i < 4; i++) headers[pick(next, names)] = pick(next, values);
  const lengths = Array.from({ length: 3 }, () => 1 + Math.floor(next() * 500));
  const body = [...cut(bodyOf(next), lengths)].flatMap((chunk) => (next() < 0.2 ? [chunk, 1] : [chunk]));
  return {
    path: `/${pick(next, paths)}`,
    method: next() < 0.93 ? "POST" : pick(next, ["GET", "PUT", "OPTIONS", "HEAD"]),
    headers,
    body,
    ...(next() < 0.1 ? { resetAfter: Math.floor(next() * 300) } : {}),
  };
}

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "latin1");

/** Bytes that may not even be HTTP. Resolves once the connection is closed. */
async function sendGarbage(url: string, next: Random): Promise<void> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  socket.on("error", () => undefined).resume();
  const closed = once(socket, "close").catch(() => undefined);
  const begin = pick(next, [
    Buffer.alloc(0),
    preface,
    preface.subarray(0, Math.floor(next() * preface.byteLength)),
    Buffer.from("POST /greet.v1.GreetService/GreetEach HTTP/1.1\r\nHost: x\r\n"),
    Buffer.from(
      "POST /greet.v1.GreetService/GreetEach HTTP/1.1\r\nHost: \x7f\r\nContent-Type: application/connect+proto\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
    ),
  ]);
  socket.write(Buffer.concat([begin, bytes(next, 500)]));
  // Frames whose header is right, so that what they hold is looked at.
  for (let i = 0; i < 5 && next() < 0.7; i++) {
    const payload = bytes(next, 60);
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.byteLength, 0, 3);
    head.writeUInt8(Math.floor(next() * 11), 3);
    head.writeUInt8(Math.floor(next() * 256), 4);
    head.writeUInt32BE(Math.floor(next() * 6), 5);
    socket.write(Buffer.concat([head, payload]));
  }
  const leave = pick(next, ["end", "end", "reset", "stay"]);
  if (leave === "end") socket.end();
  if (leave === "reset") socket.resetAndDestroy();
  await within(20_000, "the end of a connection with garbage", closed);
}

describe("whatever is sent", () => {
  it("is answered or cut within a deadline, and others are served on", { timeout: 600_000 }, async () => {
    console.log(`SLUICE_TEST_SEED=${seed}`);
    // A connection that speaks HTTP/2 and then nothing is pinged, and closed.
    const limits = ["unary-timeout", "stream-timeout", "header-timeout", "keepalive-interval", "keepalive-timeout"];
    const server = await startServerProcess([
      "--store",
      "memory",
      "--admin-port",
      "0",
      ...limits.flatMap((name) => [`--${name}`, "2s"]),
    ]);
    const ended = { with: undefined as number | string | undefined };
    void server.exited.then((code) => (ended.with = code));
    const clients = [createRawClient(server.url, "1.1"), createRawClient(server.url, "2")] as const;
    const made = createTransport({ protocol: "grpc", httpVersion: "2", tls: false }, server.url);
    const greet = createClient(GreetService, made.transport);
    onTestFinished(() => {
      for (const client of clients) client.close();
      made.close();
    });
    const next = random(seed);
    const lanes = 16;
    let understood = 0;
    for (let sent = 0; sent < requests; sent += lanes) {
      const batch = Array.from({ length: lanes }, async () => {
        // All that is random is drawn before the first wait, so that the seed settles it.
        const own = random(Math.floor(next() * 2 ** 31));
        if (own() < 0.2) await sendGarbage(server.url, own);
        else if ((await pick(own, clients).call(requestOf(own))).status === 200) understood++;
      });
      await Promise.all(batch);
      // An unhandled rejection ends the process as well.
      expect(ended.with, `seed ${seed}: the server has ended`).toBeUndefined();
      if (sent % (lanes * 10) === 0) {
        const { greeting } = await within(10_000, "a good call's answer", greet.greet({ name: "Ada" }));
        expect(greeting).toBe("Hello, Ada!");
      }
    }
    // Most of it comes as far as the runtime, and does not fail before.
    expect(understood).toBeGreaterThan(requests / 5);
    await until(20_000, "the end of every call", async () => (await server.metric("sluice_calls_active")) === 0);
    expect((await greet.greet({ name: "Ada" })).greeting).toBe("Hello, Ada!");
  });
});
