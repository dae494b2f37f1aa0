/**
 * node:http2 alone: the limit of what a server on it can reach. It speaks just
 * enough gRPC for the same client. It encodes and decodes nothing: it sends
 * buffers that were made before, and counts bytes.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { createServer } from "node:http2";
import type { ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import {
  BenchService,
  DownloadRequestSchema,
  DownloadResponseSchema,
  UploadRequestSchema,
  UploadResponseSchema,
} from "../gen/bench/v1/bench_pb.ts";
import { resolveConfig } from "../../src/config.ts";
import { announce } from "./announce.ts";

/** The same as Sluice's. */
const { streamWindow, connectionWindow } = resolveConfig();
/** Small messages are sent this many bytes at a time. */
const writeBytes = 64 * 1024;
/** A flag and a length (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). */
const prefixBytes = 5;

const server = createServer({ settings: { initialWindowSize: streamWindow } });
server.on("session", (session) => {
  session.setLocalWindowSize(connectionWindow);
});
server.on("stream", (stream, headers) => {
  stream.on("error", () => undefined);
  stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => {
    stream.sendTrailers({ "grpc-status": "0" });
  });
  switch (headers[":path"]) {
    case `/${BenchService.typeName}/${BenchService.method.upload.name}`:
      upload(stream);
      break;
    case `/${BenchService.typeName}/${BenchService.method.download.name}`:
      download(stream);
      break;
    default:
      echo(stream);
  }
});
server.listen(0, "127.0.0.1", () => {
  announce((server.address() as AddressInfo).port);
});

/** Every message of an upload has the size of the first. */
function upload(stream: ServerHttp2Stream): void {
  let total = 0;
  let first: Buffer | undefined;
  stream.on("data", (chunk: Buffer) => {
    total += chunk.length;
    // Enough for the length and, in the message, the length of the data.
    if (first === undefined || first.length < 16) first = Buffer.concat([first ?? Buffer.alloc(0), chunk]);
  });
  stream.on("end", () => {
    if (first === undefined) {
      stream.end(envelope(toBinary(UploadResponseSchema, create(UploadResponseSchema))));
      return;
    }
    const length = first.readUInt32BE(1);
    const messages = total / (prefixBytes + length);
    const overhead = encodedOverhead(length);
    const response = create(UploadResponseSchema, {
      messages: BigInt(messages),
      bytes: BigInt(messages * (length - overhead)),
    });
    stream.end(envelope(toBinary(UploadResponseSchema, response)));
  });
}

/** Bytes of an encoded message that are not its data. */
function encodedOverhead(length: number): number {
  for (let overhead = 2; overhead < 7; overhead++) {
    const data = new Uint8Array(length - overhead);
    if (toBinary(UploadRequestSchema, create(UploadRequestSchema, { data })).length === length) return overhead;
  }
  throw new Error(`no message is ${length} bytes long`);
}

function download(stream: ServerHttp2Stream): void {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  stream.on("end", () => {
    const request = fromBinary(DownloadRequestSchema, Buffer.concat(chunks).subarray(prefixBytes));
    const data = new Uint8Array(request.size);
    const message = envelope(toBinary(DownloadResponseSchema, create(DownloadResponseSchema, { data })));
    const perWrite = Math.max(1, Math.floor(writeBytes / message.length));
    const batch = Buffer.concat(new Array<Buffer>(perWrite).fill(message));
    let left = request.messages === 0n ? Infinity : Number(request.messages);
    const fill = (): void => {
      while (left > 0 && !stream.destroyed) {
        const count = Math.min(left, perWrite);
        left -= count;
        if (!stream.write(batch.subarray(0, count * message.length))) return;
      }
      if (left === 0) stream.end();
    };
    stream.on("drain", fill);
    fill();
  });
}

/** Each DATA frame is an event of its own, so what came in one turn goes out in one write. */
function echo(stream: ServerHttp2Stream): void {
  let chunks: Buffer[] = [];
  const flush = (): void => {
    const [first] = chunks;
    if (first === undefined || stream.destroyed) return;
    const more = stream.write(chunks.length === 1 ? first : Buffer.concat(chunks));
    chunks = [];
    if (!more) stream.pause();
  };
  stream.on("data", (chunk: Buffer) => {
    if (chunks.push(chunk) === 1) setImmediate(flush);
  });
  stream.on("drain", () => stream.resume());
  stream.on("end", () => {
    flush();
    stream.end();
  });
}

function envelope(message: Uint8Array): Buffer {
  const buffer = Buffer.alloc(prefixBytes + message.length);
  buffer.writeUInt32BE(message.length, 1);
  buffer.set(message, prefixBytes);
  return buffer;
}
