import { Agent, request as httpRequest } from "node:http";
import { Agent as TlsAgent, request as httpsRequest } from "node:https";
import { connect, constants } from "node:http2";
import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { createHttp3Exchanges } from "../../../src/client/node-http3-exchange.ts";
import { envelope } from "../../support/raw.ts";
import { binaryPayloads, encoded, jsonPayloads } from "./payloads.ts";
import type { Encoding } from "./payloads.ts";

export interface Target {
  readonly url: string;
  readonly ca: string | undefined;
  readonly http3Url: string | undefined;
}

const MiB = 1024 * 1024;
const token = { authorization: "Bearer sample" };

/** Each goes on until the signal; what the server refuses is what is hoped for. */
export type Attack = (target: Target, signal: AbortSignal) => Promise<void>;

interface Body {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly bytes: Buffer;
}

const open = ["grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch", "grpc.health.v1.Health/List"];
const reflection = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const closed = [
  "greet.v1.GreetService/Greet",
  "greet.v1.GreetService/GreetAll",
  "greet.v1.GreetService/GreetRepeatedly",
  "data.v1.DataService/Append",
  "data.v1.DataService/Upload",
  "data.v1.DataService/Exchange",
];

const unary = /Check|List|Greet$|Append/;

/** Every protocol, codec and compression, to every kind of method, with and without a token: made when asked for. */
function bodies(): (() => Body)[] {
  const all: (() => Body)[] = [];
  for (const method of [...open, reflection, ...closed]) {
    for (const [codec, payloads] of [
      ["proto", binaryPayloads],
      ["json", jsonPayloads],
    ] as const) {
      for (const [name, payload] of Object.entries(payloads)) {
        for (const encoding of [undefined, "gzip", "br"] as const) {
          for (const protocol of ["grpc", "grpc-web", "connect"] as const) {
            all.push(() => bodyOf(method, protocol, codec, encoding, encoded(name, payload, encoding)));
          }
        }
      }
    }
  }
  return all;
}

function bodyOf(
  method: string,
  protocol: "grpc" | "grpc-web" | "connect",
  codec: "proto" | "json",
  encoding: Encoding,
  bytes: Buffer,
): Body {
  const plain = protocol === "connect" && unary.test(method);
  const encodingHeader = plain
    ? "content-encoding"
    : protocol === "connect"
      ? "connect-content-encoding"
      : "grpc-encoding";
  return {
    path: `/${method}`,
    headers: {
      "content-type": `application/${plain ? "" : `${protocol}+`}${codec}`,
      ...(encoding === undefined ? {} : { [encodingHeader]: encoding }),
      ...(closed.includes(method) ? token : {}),
      te: "trailers",
    },
    bytes: plain ? bytes : envelope(bytes, encoding === undefined ? 0 : 1),
  };
}

/** The bodies in an order of their own, without end. */
function shuffled(seed: number): () => Body {
  const all = bodies();
  let i = seed;
  return () => (all[(i += 7919) % all.length] as () => Body)();
}

function openSession({ url, ca }: Target, initialWindowSize = MiB): ClientHttp2Session {
  const session = connect(url, {
    maxSessionMemory: 1000,
    settings: { initialWindowSize },
    ...(ca === undefined ? {} : { ca }),
  });
  session.on("error", () => undefined);
  return session;
}

/** A session that is opened again whenever the server has closed it. */
async function withSessions(
  target: Target,
  signal: AbortSignal,
  work: (session: ClientHttp2Session) => Promise<void>,
  initialWindowSize?: number,
): Promise<void> {
  while (!signal.aborted) {
    const session = openSession(target, initialWindowSize);
    try {
      while (!session.closed && !session.destroyed) {
        signal.throwIfAborted();
        await work(session);
        await sleep(5);
      }
    } catch {
      // The session was closed meanwhile.
      await sleep(20);
    } finally {
      session.destroy();
    }
  }
}

function post(session: ClientHttp2Session, { path, headers }: Body): ClientHttp2Stream {
  const stream = session.request({ ":method": "POST", ":path": path, ...headers });
  stream.on("error", () => undefined);
  return stream;
}

/** Waits for the end, or gives up and leaves the stream open. */
async function ended(stream: ClientHttp2Stream, ms: number): Promise<void> {
  await Promise.race([new Promise<void>((resolve) => stream.once("close", resolve)), sleep(ms)]);
}

/** Whole messages, many at once. Streams that answer are left open. */
const messages: Attack = async (target, signal) => {
  const all = shuffled(0);
  await withSessions(target, signal, async (session) => {
    const calls = Array.from({ length: 16 }, async () => {
      const next = all();
      const stream = post(session, next);
      stream.resume();
      stream.end(next.bytes);
      await ended(stream, 500);
    });
    await Promise.all(calls);
  });
};

/** Streams that have one message, and are never ended. */
const heldOpen: Attack = async (target, signal) => {
  const payload = binaryPayloads["few unknown fields"] ?? Buffer.alloc(0);
  const body = bodyOf("grpc.health.v1.Health/Watch", "grpc", "proto", undefined, payload);
  await withSessions(target, signal, async (session) => {
    for (let i = 0; i < 500 && !signal.aborted; i++) {
      const stream = post(session, body);
      stream.resume();
      stream.end(body.bytes);
      if (i % 20 === 0) await sleep(1);
    }
    await sleep(2000, undefined, { signal });
  });
};

/** Bodies that arrive slowly, and never whole. */
const trickle: Attack = async (target, signal) => {
  const all = shuffled(13);
  await withSessions(target, signal, async (session) => {
    const streams = Array.from({ length: 200 }, () => {
      const body = all();
      const stream = post(session, body);
      stream.resume();
      return { stream, bytes: body.bytes };
    });
    for (let at = 0; at < 4 * MiB && !signal.aborted; at += 128 * 1024) {
      for (const { stream, bytes } of streams) {
        const end = Math.min(at + 128 * 1024, bytes.byteLength - 1);
        if (end > at && !stream.destroyed && !stream.writableEnded && stream.writableLength < MiB) {
          stream.write(bytes.subarray(at, end));
        }
      }
      await sleep(10);
    }
  });
};

/** Answers that nobody reads, while the requests go on. */
const unread: Attack = async (target, signal) => {
  const read = bodyOf("data.v1.DataService/Read", "grpc", "proto", undefined, Buffer.from("\n\x05large"));
  const repeat = Buffer.from([0x0a, 3, 65, 66, 67, 0x10, 0xc0, 0x84, 0x3d]);
  const greetings = bodyOf("greet.v1.GreetService/GreetRepeatedly", "grpc", "proto", undefined, repeat);
  const described = bodyOf(reflection, "grpc", "proto", undefined, Buffer.from("\x22\x13data.v1.DataService"));
  await withSessions(
    target,
    signal,
    async (session) => {
      for (let i = 0; i < 150; i++) {
        const stream = post(session, { ...read, headers: { ...read.headers, ...token } });
        stream.end(read.bytes);
        post(session, greetings).end(greetings.bytes);
        const asked = post(session, described);
        for (let j = 0; j < 100; j++) asked.write(described.bytes);
      }
      await sleep(1000, undefined, { signal });
      session.destroy();
    },
    0,
  );
};

/** Large appends, whose acks nobody reads. */
const uploads: Attack = async (target, signal) => {
  const opened = envelope(Buffer.from("\n\x0a\n\x06upload\x10\x01"));
  const batch = Buffer.alloc(900_000);
  const record = Buffer.concat([Buffer.from([0x12, 0xa0, 0xf7, 0x36]), batch]);
  const records = Buffer.concat([Buffer.from([0x0a, 0xa4, 0xf7, 0x36]), record]);
  const append = envelope(Buffer.concat([Buffer.from([0x12, 0xa8, 0xf7, 0x36]), records]));
  await withSessions(
    target,
    signal,
    async (session) => {
      const streams = Array.from({ length: 60 }, (_, i) => {
        const method = i % 2 === 0 ? "data.v1.DataService/Upload" : "data.v1.DataService/Exchange";
        const stream = post(session, bodyOf(method, "grpc", "proto", undefined, opened));
        stream.write(opened);
        return stream;
      });
      for (let i = 0; i < 20 && !signal.aborted; i++) {
        for (const stream of streams) {
          if (!stream.destroyed && !stream.writableEnded && stream.writableLength < MiB) stream.write(append);
        }
        await sleep(50);
      }
      session.destroy();
    },
    0,
  );
};

/** Calls that are cut as soon as they have sent much. */
const resets: Attack = async (target, signal) => {
  const all = shuffled(101);
  await withSessions(target, signal, async (session) => {
    const calls = Array.from({ length: 16 }, async () => {
      const next = all();
      const stream = post(session, next);
      stream.write(next.bytes);
      await sleep(20);
      stream.close(constants.NGHTTP2_CANCEL);
    });
    await Promise.all(calls);
  });
};

/** Open calls with as many headers as are taken. */
const headers: Attack = async (target, signal) => {
  const large = Object.fromEntries(Array.from({ length: 15 }, (_, i) => [`x-header-${i}`, "v".repeat(900)]));
  const body = bodyOf("grpc.health.v1.Health/Watch", "connect", "proto", undefined, Buffer.alloc(0));
  await withSessions(target, signal, async (session) => {
    for (let i = 0; i < 300; i++) {
      const stream = post(session, { ...body, headers: { ...body.headers, ...large } });
      stream.resume();
      stream.end(body.bytes);
      if (i % 20 === 0) await sleep(1);
    }
    await sleep(1000, undefined, { signal });
    session.destroy();
  });
};

/** Many connections of HTTP/1.1, each with a part of a body, or with whole ones that are not waited for. */
const connections: Attack = async ({ url, ca }, signal) => {
  const all = shuffled(29);
  const agent = ca === undefined ? new Agent({ maxSockets: 200 }) : new TlsAgent({ maxSockets: 200, ca });
  const ask = ca === undefined ? httpRequest : httpsRequest;
  const lane = async (whole: boolean): Promise<void> => {
    while (!signal.aborted) {
      const body = all();
      const { te: _, ...fields } = body.headers;
      const request = ask(new URL(body.path, url), { agent, method: "POST", headers: fields });
      request.on("error", () => undefined);
      request.on("response", (response) => {
        response.on("error", () => undefined);
        response.resume();
      });
      const closed = new Promise<void>((resolve) => request.once("close", resolve));
      if (whole) request.end(body.bytes);
      else request.write(body.bytes.subarray(0, body.bytes.byteLength / 2));
      await Promise.race([closed, sleep(whole ? 500 : 1500)]);
      request.destroy();
      // More connections than the kernel queues meanwhile would be another attack.
      await sleep(300);
    }
  };
  await Promise.all(Array.from({ length: 50 }, (_, i) => lane(i % 4 === 0)));
  agent.destroy();
};

/** The same messages over QUIC; some answers are not read, some bodies not ended. */
const http3: Attack = async ({ http3Url, ca }, signal) => {
  if (http3Url === undefined || ca === undefined) return;
  const all = shuffled(53);
  while (!signal.aborted) {
    const made = createHttp3Exchanges(http3Url, {
      streamWindow: MiB,
      connectionWindow: 4 * MiB,
      pingIntervalMs: 60_000,
      pingTimeoutMs: 60_000,
      tls: { ca },
    });
    const calls = Array.from({ length: 60 }, async (_, i) => {
      const body = all();
      const over = Promise.withResolvers<undefined>();
      const exchange = await made.open(
        { method: "POST", url: http3Url + body.path, header: new Headers({ ...body.headers }) },
        {
          onHead: () => undefined,
          onChunk: () => undefined,
          onEnd: () => {
            over.resolve(undefined);
          },
          onError: () => {
            over.resolve(undefined);
          },
          onDrain: () => undefined,
        },
      );
      if (i % 3 === 0) exchange.pause();
      exchange.write([body.bytes], () => undefined);
      if (i % 2 === 0) exchange.end();
      await Promise.race([over.promise, sleep(700)]);
      exchange.reset("canceled");
    });
    await Promise.allSettled(calls);
    made.close();
  }
};

export const attacks: Readonly<Record<string, Attack>> = {
  messages,
  heldOpen,
  trickle,
  unread,
  uploads,
  resets,
  headers,
  connections,
  http3,
};
