import { createClient } from "@connectrpc/connect";
import { once } from "node:events";
import { connect as connectHttp2, constants } from "node:http2";
import type { ClientHttp2Session } from "node:http2";
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import type { Server } from "../../src/compose.ts";
import { closing, until, within } from "../support/deadline.ts";
import { startServer, useServer } from "../support/server.ts";
import { createTransport } from "../support/transports.ts";
import { problem } from "../contract/store-contract.ts";

function useSocket(url: string): Socket {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  socket.on("error", () => undefined);
  onTestFinished(() => {
    socket.destroy();
  });
  return socket;
}

function useSession(url: string): ClientHttp2Session {
  const session = connectHttp2(url);
  session.on("error", () => undefined);
  onTestFinished(() => {
    session.destroy();
  });
  return session;
}

/** Everything that the server sends until it closes. */
async function answerOf(socket: Socket): Promise<string> {
  let text = "";
  socket.on("data", (chunk: Buffer) => (text += chunk.toString("latin1")));
  await within(10_000, "the end of the connection", closing(socket));
  return text;
}

interface Answer {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly trailers: Record<string, unknown>;
  readonly body: Buffer;
  readonly resetCode: number;
}

/** One raw HTTP/2 request; `body` undefined leaves it open. */
async function request(
  session: ClientHttp2Session,
  path: string,
  headers: Record<string, string>,
  body?: Uint8Array,
): Promise<Answer> {
  const stream = session.request({
    ":method": "POST",
    ":path": path,
    authorization: "Bearer sample",
    ...headers,
  });
  stream.on("error", () => undefined);
  let received: Record<string, unknown> = {};
  let trailers: Record<string, unknown> = {};
  const chunks: Buffer[] = [];
  stream.on("response", (h) => (received = h));
  stream.on("trailers", (t: Record<string, unknown>) => (trailers = t));
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  if (body === undefined) stream.write(Buffer.alloc(0));
  else stream.end(body);
  await within(10_000, "the answer", closing(stream));
  return {
    status: Number(received[":status"]),
    headers: received,
    trailers,
    body: Buffer.concat(chunks),
    resetCode: stream.rstCode,
  };
}

function envelope(length: number, data: Uint8Array = new Uint8Array(), flags = 0): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(flags);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, data]);
}

const greetEach = "/greet.v1.GreetService/GreetEach";
const greet = "/greet.v1.GreetService/Greet";

describe("bad input", () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server.close());

  /** After each fault, others are still served. */
  async function servesOn(url = server.url): Promise<void> {
    const made = createTransport({ protocol: "grpc", httpVersion: "2", tls: false }, url);
    const { greeting } = await within(
      10_000,
      "another call's answer",
      createClient(GreetService, made.transport).greet({ name: "Ada" }),
    );
    made.close();
    expect(greeting).toBe("Hello, Ada!");
  }

  it("garbage on the port is answered with 400 and closed", async () => {
    const socket = useSocket(server.url);
    socket.write(Buffer.from([0x16, 0x03, 0x01, 0x00, 0xff, 0xfe, 0x00, 0x0a, 0x0d, 0x0a]));
    expect(await answerOf(socket)).toMatch(/^HTTP\/1\.1 400 /);
    await servesOn();
  });

  for (const [what, bytes] of [
    ["nothing", ""],
    ["half of HTTP/2's preface", "PRI * HTTP/2"],
    ["half of a request's headers", "POST / HTTP/1.1\r\nHost: localhost\r\n"],
  ] as const) {
    it(`a connection that sends ${what} is closed after the header timeout`, async () => {
      // Long enough for what is sent to be read before, also on a busy machine.
      const impatient = await useServer({ headerTimeout: 1000 });
      const socket = useSocket(impatient.url);
      socket.write(bytes);
      const answer = await answerOf(socket);
      if (bytes.startsWith("POST")) expect(answer).toMatch(/^HTTP\/1\.1 408 /);
      await servesOn();
    });
  }

  it("HTTP/2's preface is recognised however it is cut", async () => {
    const socket = useSocket(server.url);
    socket.setNoDelay(true);
    const preface = Buffer.concat([
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
      Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
    ]);
    for (const byte of preface) {
      socket.write(Buffer.of(byte));
      await new Promise(setImmediate);
    }
    const [settings] = (await within(5000, "the server's SETTINGS", once(socket, "data"))) as [Buffer];
    expect(settings[3]).toBe(4);
  });

  it("headers that are too large are refused", async () => {
    const socket = useSocket(server.url);
    socket.write(`GET / HTTP/1.1\r\nHost: localhost\r\nX: ${"y".repeat(20_000)}\r\n\r\n`);
    expect(await answerOf(socket)).toMatch(/^HTTP\/1\.1 431 /);
    const answer = await request(useSession(server.url), greet, { x: "y".repeat(20_000) }, Buffer.alloc(0));
    expect(answer.status === 431 || answer.resetCode !== 0).toBe(true);
    await servesOn();
  });

  it("a length prefix of 4 GiB with nothing behind it fails, and nothing is reserved for it", async () => {
    const before = process.memoryUsage().arrayBuffers;
    const session = useSession(server.url);
    const answers = await Promise.all(
      Array.from({ length: 20 }, () =>
        request(session, greetEach, { "content-type": "application/grpc" }, envelope(0xffffffff)),
      ),
    );
    for (const { trailers, headers } of answers) expect(trailers["grpc-status"] ?? headers["grpc-status"]).toBe("8");
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(50 * 1024 * 1024);
    await servesOn();
  });

  it("a truncated envelope fails", async () => {
    const session = useSession(server.url);
    const cut = envelope(10, Buffer.from("abc"));
    const grpc = await request(session, greetEach, { "content-type": "application/grpc" }, cut);
    expect(["3", "13", "15"]).toContain(grpc.trailers["grpc-status"] ?? grpc.headers["grpc-status"]);
    const connectAnswer = await request(session, greetEach, { "content-type": "application/connect+proto" }, cut);
    expect(connectAnswer.body.toString()).toMatch(/"code":"(invalid_argument|data_loss)"/);
    await servesOn();
  });

  it("an unknown compression is UNIMPLEMENTED, and says which are known", async () => {
    const headers = { "content-type": "application/grpc", "grpc-encoding": "zip" };
    const answer = await request(useSession(server.url), greetEach, headers, envelope(0));
    expect(answer.trailers["grpc-status"] ?? answer.headers["grpc-status"]).toBe("12");
    const message = String(answer.trailers["grpc-message"] ?? answer.headers["grpc-message"]);
    expect(decodeURIComponent(message)).toContain("gzip");
  });

  it("a wrong content type is 415, and says which are right", async () => {
    const answer = await request(useSession(server.url), greet, { "content-type": "text/plain" }, Buffer.from("x"));
    expect(answer.status).toBe(415);
    expect(answer.headers["accept-post"]).toContain("application/connect+proto");
  });

  it("a wrong method is 405", async () => {
    expect((await fetch(new URL(greet, server.url), { method: "DELETE" })).status).toBe(405);
  });

  it("an unknown method is UNIMPLEMENTED in the protocol that asked", async () => {
    const session = useSession(server.url);
    const grpc = await request(
      session,
      "/greet.v1.GreetService/Nope",
      { "content-type": "application/grpc" },
      envelope(0),
    );
    expect(grpc.status).toBe(200);
    expect(grpc.trailers["grpc-status"]).toBe("12");
    const unary = await request(session, "/nope", { "content-type": "application/json" }, Buffer.from("{}"));
    expect(unary.status).toBe(404);
    expect(JSON.parse(unary.body.toString())).toMatchObject({ code: "unimplemented" });
  });

  it("invalid UTF-8, bytes that are no message, and bad JSON are told as such", async () => {
    const session = useSession(server.url);
    for (const [type, body, code] of [
      ["application/proto", Buffer.from([0x0a, 0x02, 0xc3, 0x28]), "invalid_argument"],
      ["application/proto", Buffer.from([0xff, 0xff, 0xff]), "invalid_argument"],
      ["application/json", Buffer.from(`{"name":`), "invalid_argument"],
      ["application/json", Buffer.from(`{"name":7}`), "invalid_argument"],
    ] as const) {
      const answer = await request(session, greet, { "content-type": type }, body);
      const error = JSON.parse(answer.body.toString()) as { code: string; message: string };
      expect(error.code).toBe(code);
      if (type === "application/proto") expect(error.message).toMatch(/^parse binary: /);
    }
  });

  it("values that break a rule name the field and the rule", async () => {
    for (const [path, body, field] of [
      ["/data.v1.DataService/CreateStream", { name: "Not A Name" }, "name"],
      ["/data.v1.DataService/CreateStream", { name: "" }, "name"],
      ["/data.v1.DataService/CreateStream", { name: "../etc" }, "name"],
      ["/data.v1.DataService/CreateStream", { name: "a".repeat(256) }, "name"],
      ["/data.v1.DataService/ListStreams", { pageSize: -1 }, "page_size"],
      ["/data.v1.DataService/ListStreams", { pageSize: 1_000_000 }, "page_size"],
      ["/data.v1.DataService/Append", { stream: "s", records: [] }, "records"],
      [greet, { name: "" }, "name"],
    ] as const) {
      const response = await fetch(new URL(path, server.url), {
        method: "POST",
        headers: { "content-type": "application/json", authorization: "Bearer sample" },
        body: JSON.stringify(body),
      });
      expect(response.status, JSON.stringify(body)).toBe(400);
      const error = (await response.json()) as { code: string; message: string; details: { type: string }[] };
      expect(error.code).toBe("invalid_argument");
      expect(error.message).toContain(field);
      expect(error.details[0]?.type).toBe("buf.validate.Violations");
    }
  });

  it("a client that sends headers and then nothing is told that the time is up", async () => {
    const impatient = await useServer({ unaryTimeout: 500, streamIdleTimeout: 500 });
    const session = useSession(impatient.url);
    const stream = await request(session, greetEach, { "content-type": "application/grpc" });
    expect(stream.trailers["grpc-status"]).toBe("14");
    expect(decodeURIComponent(String(stream.trailers["grpc-message"]))).toContain("--stream-idle-timeout");
    const unary = await request(session, greet, { "content-type": "application/grpc" });
    expect(unary.trailers["grpc-status"] ?? unary.headers["grpc-status"]).toBe("14");
  });

  it("a client that does not take its answer is cut when the time is up", async () => {
    const impatient = await useServer({ unaryTimeout: 500 });
    // Not a byte of a body may be sent to it.
    const session = connectHttp2(impatient.url, { settings: { initialWindowSize: 0 } });
    session.on("error", () => undefined);
    onTestFinished(() => {
      session.destroy();
    });
    await within(10_000, "the server's SETTINGS", once(session, "remoteSettings"));
    const headers = {
      ":method": "POST",
      ":path": greet,
      "content-type": "application/grpc",
      authorization: "Bearer sample",
    };
    const stream = session.request(headers);
    stream.on("error", () => undefined);
    stream.end(envelope(0));
    await within(10_000, "the end of the stream", closing(stream));
    expect(stream.rstCode).toBe(constants.NGHTTP2_CANCEL);
  });

  it("1,000 streams opened and reset at once leave nothing behind", async () => {
    const session = useSession(server.url);
    for (let i = 0; i < 1000; i++) {
      const stream = session.request({
        ":method": "POST",
        ":path": greetEach,
        "content-type": "application/grpc",
        authorization: "Bearer sample",
      });
      stream.on("error", () => undefined);
      stream.close(constants.NGHTTP2_CANCEL);
    }
    await servesOn();
  });
});

describe("limits", () => {
  it("one call more than the limit is RESOURCE_EXHAUSTED", async () => {
    const server = await useServer({ maxCalls: 1 });
    const session = useSession(server.url);
    const open = session.request({
      ":method": "POST",
      ":path": greetEach,
      "content-type": "application/grpc",
      authorization: "Bearer sample",
    });
    open.on("error", () => undefined);
    await within(5000, "the first call's headers", once(open, "response"));
    const answer = await request(session, greet, { "content-type": "application/grpc" }, envelope(0));
    expect(answer.trailers["grpc-status"] ?? answer.headers["grpc-status"]).toBe("8");
  });

  it("the limit of streams on a connection is advertised", async () => {
    const server = await useServer({ maxStreamsPerConnection: 7 });
    const session = useSession(server.url);
    await within(5000, "the server's SETTINGS", once(session, "remoteSettings"));
    expect(session.remoteSettings.maxConcurrentStreams).toBe(7);
  });

  it("a message that is too large is RESOURCE_EXHAUSTED", async () => {
    const server = await useServer({ maxMessageBytes: 1024, maxBatchBytes: 1024 });
    const data = Buffer.alloc(2000);
    const answer = await request(
      useSession(server.url),
      greetEach,
      { "content-type": "application/grpc" },
      envelope(2000, data),
    );
    expect(answer.trailers["grpc-status"] ?? answer.headers["grpc-status"]).toBe("8");
  });

  it("a longer deadline of the client is bounded, not refused", async () => {
    const server = await useServer({ streamTimeout: 300 });
    const started = performance.now();
    const headers = { "content-type": "application/grpc", "grpc-timeout": "99999999S" };
    const answer = await request(useSession(server.url), greetEach, headers);
    expect(answer.trailers["grpc-status"]).toBe("14");
    expect(decodeURIComponent(String(answer.trailers["grpc-message"]))).toContain("--stream-timeout");
    expect(performance.now() - started).toBeGreaterThan(250);
  });

  it("a peer that does not answer pings is closed", async () => {
    const strict = await useServer({ keepaliveInterval: 100, keepaliveTimeout: 100 });
    const socket = useSocket(strict.url);
    // A client of HTTP/2 that says hello, and then no more.
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    socket.resume();
    await within(5000, "the end of the connection", closing(socket));
    // On a busy machine an answer may take longer than that.
    const patient = await useServer({ keepaliveInterval: 100, keepaliveTimeout: 60_000 });
    const alive = useSession(patient.url);
    let pings = 0;
    alive.on("ping", () => pings++);
    await until(5000, "three pings", () => pings >= 3);
    expect(alive.destroyed).toBe(false);
  });

  it("an old connection is told to go, its calls may finish within the grace, then they end", async () => {
    const server = await useServer({ maxConnectionAge: 1000, maxConnectionAgeGrace: 1000 });
    const session = useSession(server.url);
    const goaway = once(session, "goaway");
    const stream = session.request({
      ":method": "POST",
      ":path": greetEach,
      "content-type": "application/grpc",
      authorization: "Bearer sample",
    });
    stream.on("error", () => undefined);
    let trailers: Record<string, unknown> = {};
    stream.on("trailers", (t: Record<string, unknown>) => (trailers = t));
    stream.resume();
    await within(5000, "GOAWAY", goaway);
    expect(stream.closed).toBe(false);
    await within(5000, "the end of the call", closing(stream));
    expect(trailers["grpc-status"]).toBe("14");
    const http1 = useSocket(server.url);
    await within(5000, "the end of an idle HTTP/1.1 connection", closing(http1));
  });
});

describe("starting", () => {
  it("fails with what to do when the port is in use", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as AddressInfo;
    try {
      await expect(startServer({ port })).rejects.toThrow(
        /is in use: stop the other program, or choose another --port/,
      );
    } finally {
      other.close();
    }
  });

  it("fails with what to do for a bad address or certificate", async () => {
    await expect(startServer({ host: "127.0.0.1", adminPort: 0, adminHost: "192.0.2.1" })).rejects.toThrow(
      /--admin-host/,
    );
    const files = { tlsCert: import.meta.filename, tlsKey: import.meta.filename };
    await expect(startServer(files)).rejects.toThrow(/--tls-cert and --tls-key must be PEM files that belong together/);
    await expect(startServer({ tlsCert: "/no/such", tlsKey: "/no/such" })).rejects.toThrow(/`sluice cert`/);
    expect(await problem(startServer({ store: "lmdb", dataDir: import.meta.filename }))).toBe("store-unreadable");
    expect(await problem(startServer({ tokensFile: "/no/such" }))).toBe("config");
  });
});
