import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect as connectHttp2 } from "node:http2";
import type { ClientHttp2Stream } from "node:http2";
import { connect as connectTcp } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { expect, onTestFinished } from "vitest";
import type { Server, StartOptions } from "../../src/compose.ts";
import type { Config } from "../../src/config.ts";
import { Http3Engine } from "../../src/http3/engine.ts";
import type { End, StreamListener } from "../../src/http3/engine.ts";
import { closing, deferred, within } from "../support/deadline.ts";
import { tlsFiles, windows } from "../support/http3.ts";
import { useServer } from "../support/server.ts";

/** The ways in. Each peer below is Node's own client, raw bytes, or the engine by itself. */
export const doors = ["http1", "http1s", "http2", "http2s", "http3"] as const;
export type Door = (typeof doors)[number];

/** A client that makes one connection, and never another. */
export interface Peer {
  /** A unary call, with its HTTP status; rejects if the connection breaks. */
  call(path?: string, token?: string): Promise<number>;
  /** Begins a call that stays in flight until it is ended; resolves once the server has begun to answer. */
  hold(): Promise<{ end(): void }>;
  /** Begins a call, and gives it up at once. */
  abandon(): void;
  /** Resolves when the connection is gone, with what the server said before. */
  readonly closed: Promise<string>;
  readonly isClosed: boolean;
  destroy(): void;
}

const greet = "/greet.v1.GreetService/Greet";
const watch = "/grpc.health.v1.Health/Watch";

/** A server, how to connect to it, and its numbers. */
export interface Crowd {
  readonly server: Server;
  /** A new connection, over TCP from another address of loopback if one is given. */
  enter(this: void, from?: string): Promise<Peer>;
  /** The value of a metric, with its labels. */
  metric(this: void, name: string): Promise<number>;
}

/** A server of its own, with TLS and HTTP/3 for the doors that need it, and its numbers. */
export async function useCrowd(door: Door, config: Partial<Config> = {}, options: StartOptions = {}): Promise<Crowd> {
  let tls = {};
  if (door.endsWith("s") || door === "http3") {
    const dir = await mkdtemp(join(tmpdir(), "sluice-crowd-"));
    onTestFinished(() => rm(dir, { recursive: true }));
    const files = { tlsCert: join(dir, "cert.pem"), tlsKey: join(dir, "key.pem") };
    await Promise.all([writeFile(files.tlsCert, tlsFiles.cert), writeFile(files.tlsKey, tlsFiles.key)]);
    tls = { ...files, http3: door === "http3" };
  }
  const server = await useServer({ adminPort: 0, ...tls, ...config }, options);
  const metric = async (name: string): Promise<number> => {
    const text = await (await fetch(server.adminUrl ?? "", { headers: { connection: "close" } })).text();
    const line = text.split("\n").find((each) => each.startsWith(`${name} `));
    return Number(line?.split(" ").at(-1));
  };
  // Before the server closes: whatever its peers do, it expects it.
  onTestFinished(async () => {
    expect(await metric("sluice_unexpected_errors_total")).toBe(0);
  });
  return { server, enter: (from) => enter(door, server, from), metric };
}

/** A new connection to a server. */
export async function enter(door: Door, server: Server, from = "127.0.0.1"): Promise<Peer> {
  const make = { http1: http1Peer, http1s: http1Peer, http2: http2Peer, http2s: http2Peer, http3: http3Peer }[door];
  const peer = await within(10_000, "a connection", make(server, from));
  onTestFinished(() => {
    peer.destroy();
  });
  return peer;
}

/** A TCP connection, with TLS if the server has it. */
export async function dial(url: string, from = "127.0.0.1", alpn = "http/1.1"): Promise<Socket> {
  const port = Number(new URL(url).port);
  const secure = url.startsWith("https:");
  const raw = connectTcp({ port, host: "127.0.0.1", localAddress: from });
  raw.on("error", () => undefined);
  if (!secure) {
    await once(raw, "connect");
    return raw;
  }
  const socket = connectTls({ socket: raw, ca: tlsFiles.ca, servername: "localhost", ALPNProtocols: [alpn] });
  socket.on("error", () => undefined);
  const failed = closing(socket).then(() => Promise.reject(new Error("the connection closed")));
  await Promise.race([once(socket, "secureConnect"), failed]);
  failed.catch(() => undefined);
  return socket;
}

async function http1Peer(server: Server, from: string): Promise<Peer> {
  const socket = await dial(server.url, from);
  const closed = closing(socket);
  let received = "";
  let onData = (): void => undefined;
  socket.on("data", (chunk: Buffer) => {
    received += chunk.toString("latin1");
    onData();
  });
  const answer = async (done: RegExp): Promise<number> => {
    const whole = new Promise<void>((resolve) => {
      onData = () => {
        if (done.test(received)) resolve();
      };
    });
    await Promise.race([whole, closed.then(() => Promise.reject(new Error("the connection closed")))]);
    const status = Number(/^HTTP\/1\.1 (\d+)/.exec(received)?.[1]);
    received = "";
    return status;
  };
  const send = (path: string, token: string, body: string, type: string): void => {
    socket.write(
      `POST ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\nContent-Type: ${type}\r\n` +
        `Content-Length: ${body.length}\r\n\r\n${body}`,
    );
  };
  return {
    call(path = greet, token = "sample") {
      send(path, token, '{"name":"Ada"}', "application/json");
      return answer(/\r\n\r\n\{.*\}$/s);
    },
    async hold() {
      send(watch, "sample", "\0\0\0\0\x02{}", "application/connect+json");
      await answer(/SERVING/);
      return {
        end: () => {
          socket.destroy();
        },
      };
    },
    abandon() {
      send(watch, "sample", "\0\0\0\0\x02{}", "application/connect+json");
      socket.end();
    },
    closed: closed.then(() => received),
    get isClosed() {
      return socket.destroyed;
    },
    destroy: () => socket.destroy(),
  };
}

async function http2Peer(server: Server, from: string): Promise<Peer> {
  const socket = await dial(server.url, from, "h2");
  const session = connectHttp2(server.url, { createConnection: () => socket });
  session.on("error", () => undefined);
  let said = "";
  session.on("goaway", (code) => (said = `GOAWAY ${code}`));
  const closed = closing(session);
  const send = (path: string, token: string, type: string, body?: string): ClientHttp2Stream => {
    const stream = session.request({
      ":method": "POST",
      ":path": path,
      "content-type": type,
      authorization: `Bearer ${token}`,
    });
    stream.on("error", () => undefined);
    if (body !== undefined) stream.end(body);
    return stream;
  };
  const head = async (stream: ClientHttp2Stream): Promise<number> => {
    const broken = closing(stream).then(() => Promise.reject(new Error("the stream closed")));
    broken.catch(() => undefined);
    const [headers] = (await Promise.race([once(stream, "response"), broken])) as [Record<string, unknown>];
    return Number(headers[":status"]);
  };
  const refused = closed.then(() => Promise.reject(new Error("the connection closed")));
  refused.catch(() => undefined);
  await Promise.race([once(session, "remoteSettings"), refused]);
  return {
    async call(path = greet, token = "sample") {
      const stream = send(path, token, "application/json", '{"name":"Ada"}');
      const status = await head(stream);
      const ended = closing(stream);
      stream.resume();
      await ended;
      return status;
    },
    async hold() {
      const stream = send(watch, "sample", "application/connect+json", "\0\0\0\0\x02{}");
      await head(stream);
      stream.resume();
      return {
        end: () => {
          stream.close(8);
        },
      };
    },
    abandon() {
      send(watch, "sample", "application/connect+json").close(8);
    },
    closed: closed.then(() => said),
    get isClosed() {
      return session.destroyed;
    },
    destroy: () => session.destroy(),
  };
}

async function http3Peer(server: Server): Promise<Peer> {
  const url = `https://localhost:${server.http3Port ?? 0}`;
  const opened = deferred();
  const closed = deferred<string>();
  let isClosed = false;
  const engine = new Http3Engine({
    onConnectionOpened: () => {
      opened.resolve();
    },
    onConnectionClosed: (_id, end) => {
      isClosed = true;
      opened.reject(new Error(`not connected: ${end.how}`));
      closed.resolve(describe(end));
    },
  });
  engine.hold();
  engine.native.trust(Buffer.from(tlsFiles.ca), undefined, {
    streams: 0,
    ...windows,
    sendWindow: windows.connectionWindow,
    idleTimeoutMs: 60_000,
    keepaliveMs: 5000,
    headerBytes: 65_536,
    headerTimeoutMs: 10_000,
    answerTimeoutMs: 60_000,
  });
  const id = engine.native.connect(["127.0.0.1"], server.http3Port ?? 0, "localhost");
  const send = (path: string, token: string, type: string, body?: string) => {
    const head = deferred<number>();
    head.promise.catch(() => undefined);
    const over = deferred();
    const listener: StreamListener = {
      onHead: (status) => {
        head.resolve(status);
      },
      onLent: () => undefined,
      onEnd: () => {
        over.resolve();
      },
      onDrain: () => undefined,
      onFinished: () => undefined,
      onBroken: (end) => {
        head.reject(new Error(describe(end)));
        over.resolve();
      },
    };
    const header = new Headers({ "content-type": type, authorization: `Bearer ${token}` });
    const stream = engine.request(id, "POST", `${url}${path}`, header, listener);
    stream.resume();
    if (body !== undefined) {
      stream.write([Buffer.from(body)]);
      stream.finish();
    }
    return { stream, head: head.promise, over: over.promise };
  };
  await opened.promise;
  return {
    async call(path = greet, token = "sample") {
      const sent = send(path, token, "application/json", '{"name":"Ada"}');
      const status = await sent.head;
      await sent.over;
      sent.stream.release();
      return status;
    },
    async hold() {
      const sent = send(watch, "sample", "application/connect+json", "\0\0\0\0\x02{}");
      await sent.head;
      return {
        end: () => {
          sent.stream.reset(0x10c);
          sent.stream.stopReading(0x10c);
          sent.stream.release();
        },
      };
    },
    abandon() {
      const { stream } = send(watch, "sample", "application/connect+json");
      stream.reset(0x10c);
      stream.stopReading(0x10c);
      stream.release();
    },
    closed: closed.promise,
    get isClosed() {
      return isClosed;
    },
    destroy: () => {
      if (!isClosed) engine.native.closeConnection(id);
      engine.release();
    },
  };
}

function describe({ how, code }: End): string {
  return `${how} ${code === undefined ? "" : `0x${code.toString(16)}`}`;
}
