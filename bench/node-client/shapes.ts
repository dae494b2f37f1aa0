import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { constants } from "node:http2";
import type { ClientHttp2Stream } from "node:http2";
import type { Shape } from "../cases.ts";
import { DownloadRequestSchema, UploadResponseSchema } from "../gen/bench/v1/bench_pb.ts";
import { ended } from "./connection.ts";
import type { Connection } from "./connection.ts";
import { envelope, prefixBytes } from "./load.ts";
import type { Load } from "./load.ts";

/** Runs one stream of so many messages, or until the load stops. */
type Worker = (load: Load, connection: Connection, messages: number) => Promise<void>;

/** Small messages are sent this many bytes at a time. */
const writeBytes = 16 * 1024;

export const workers: Readonly<Record<Shape, Worker>> = {
  // Node gives its sockets what was written in one turn together.
  upload,
  "upload-joined": upload,
  download,
  bidi,
  "bidi-joined": bidi,
  pingpong,
  unary,
};

async function upload(load: Load, connection: Connection, messages: number): Promise<void> {
  const stream = connection.open("upload");
  const end = ended(stream);
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  const sent = send(load, stream, messages, (count) => (load.messages += count));
  await end;
  const response = fromBinary(UploadResponseSchema, Buffer.concat(chunks).subarray(prefixBytes));
  if (Number(response.messages) !== (await sent)) throw new Error("the server got another number of messages");
}

async function download(load: Load, connection: Connection, messages: number): Promise<void> {
  const stream = connection.open("download");
  const end = ended(stream);
  const request = { messages: BigInt(messages === Infinity ? 0 : messages), size: load.size };
  stream.end(envelope(toBinary(DownloadRequestSchema, create(DownloadRequestSchema, request))));
  const received = receive(load, stream, (count) => {
    load.messages += count;
    if (load.stopped && messages === Infinity) stream.close(constants.NGHTTP2_CANCEL);
  });
  await end.catch((error: unknown) => {
    if (!load.stopped) throw error;
  });
  if (!load.stopped && received() !== messages) throw new Error("the server sent another number of messages");
}

async function bidi(load: Load, connection: Connection, messages: number): Promise<void> {
  const stream = connection.open("echo");
  const end = ended(stream);
  const sent = send(load, stream, messages, () => undefined);
  const received = receive(load, stream, (count) => (load.messages += count));
  await end;
  if (received() !== (await sent)) throw new Error("another number of messages came back");
}

async function pingpong(load: Load, connection: Connection, messages: number): Promise<void> {
  const stream = connection.open("echo");
  const end = ended(stream);
  let start = performance.now();
  stream.write(load.message);
  const received = receive(load, stream, (count) => {
    load.messages += count;
    load.record(performance.now() - start);
    if (load.stopped || received() === messages) {
      stream.end();
    } else {
      start = performance.now();
      stream.write(load.message);
    }
  });
  await end;
}

async function unary(load: Load, connection: Connection, messages: number): Promise<void> {
  for (let sent = 0; sent < messages && !load.stopped; sent++) {
    const start = performance.now();
    const stream = connection.open("unary");
    const end = ended(stream);
    const received = receive(load, stream, (count) => (load.messages += count));
    stream.end(load.message);
    await end;
    if (received() !== 1) throw new Error("not one answer");
    load.record(performance.now() - start);
  }
}

/** Sends messages as fast as they are taken, then half-closes. Resolves with their number. */
function send(load: Load, stream: ClientHttp2Stream, messages: number, each: (count: number) => void): Promise<number> {
  const perWrite = Math.max(1, Math.floor(writeBytes / load.message.length));
  const batch = Buffer.concat(new Array<Buffer>(perWrite).fill(load.message));
  let sent = 0;
  return new Promise((resolve) => {
    const fill = (): void => {
      while (sent < messages && !load.stopped && !stream.destroyed) {
        const count = Math.min(messages - sent, perWrite);
        sent += count;
        each(count);
        if (!stream.write(batch.subarray(0, count * load.message.length))) return;
      }
      stream.off("drain", fill);
      stream.end();
      resolve(sent);
    };
    stream.on("drain", fill);
    stream.on("close", () => {
      resolve(sent);
    });
    fill();
  });
}

/** Counts messages, which all have the length of those that are sent. */
function receive(load: Load, stream: ClientHttp2Stream, each: (count: number) => void): () => number {
  let bytes = 0;
  let counted = 0;
  stream.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    const count = Math.floor(bytes / load.message.length) - counted;
    if (count === 0) return;
    counted += count;
    each(count);
  });
  return () => counted;
}
