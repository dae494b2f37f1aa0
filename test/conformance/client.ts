/**
 * The client under test. Takes ClientCompatRequests from standard input, makes
 * the call that each describes with Sluice's transport, and says on standard
 * output how it went.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import { createNodeTransport } from "../../src/client/node-transport.ts";
import type { NodeTransportOptions } from "../../src/client/node-transport.ts";
import { makeCall } from "./calls.ts";
import { registry } from "./convert.ts";
import { readFrames, writeFrame } from "./framing.ts";
import {
  ClientCompatRequestSchema,
  ClientCompatResponseSchema,
  ClientErrorResultSchema,
} from "./gen/connectrpc/conformance/v1/client_compat_pb.ts";
import type { ClientCompatRequest, ClientCompatResponse } from "./gen/connectrpc/conformance/v1/client_compat_pb.ts";
import { Codec, Compression, HTTPVersion, Protocol } from "./gen/connectrpc/conformance/v1/config_pb.ts";

/** Calls at once: most wait for the server most of the time. */
const parallel = 8;

const defaultReadMaxBytes = 16 * 1024 * 1024;

/** What the suite's values are called here. What is missing is not spoken, and a call that asks for it fails. */
const httpVersions = new Map<HTTPVersion, NodeTransportOptions["httpVersion"]>([
  [HTTPVersion.HTTP_VERSION_1, "1.1"],
  [HTTPVersion.HTTP_VERSION_2, "2"],
  [HTTPVersion.HTTP_VERSION_3, "3"],
]);
const protocols = new Map<Protocol, NodeTransportOptions["protocol"]>([
  [Protocol.CONNECT, "connect"],
  [Protocol.GRPC, "grpc"],
  [Protocol.GRPC_WEB, "grpc-web"],
]);
const codecs = new Map<Codec, Pick<NodeTransportOptions, "useBinaryFormat">>([
  [Codec.PROTO, { useBinaryFormat: true }],
  [Codec.JSON, { useBinaryFormat: false }],
]);
const compressions = new Map<Compression, Pick<NodeTransportOptions, "sendCompression" | "acceptCompression">>([
  [Compression.IDENTITY, {}],
  [Compression.GZIP, { sendCompression: compressionGzip, acceptCompression: [compressionGzip] }],
  [Compression.BR, { sendCompression: compressionBrotli, acceptCompression: [compressionBrotli] }],
]);

function known<K extends number, V>(values: ReadonlyMap<K, V>, key: K): V {
  const value = values.get(key);
  if (value === undefined) throw new TypeError(`the suite asks for something that client.yaml does not list: ${key}`);
  return value;
}

function transportOptions(request: ClientCompatRequest): NodeTransportOptions {
  const { host, port, serverTlsCert, clientTlsCreds, messageReceiveLimit } = request;
  const tls = serverTlsCert.byteLength > 0;
  return {
    url: `${tls ? "https" : "http"}://${host}:${port}`,
    protocol: known(protocols, request.protocol),
    httpVersion: known(httpVersions, request.httpVersion),
    interceptors: [],
    readMaxBytes: messageReceiveLimit === 0 ? defaultReadMaxBytes : messageReceiveLimit,
    ...known(codecs, request.codec),
    ...known(compressions, request.compression),
    // The suite's messages are small: all are compressed, also those without a byte.
    compressMinBytes: -1,
    jsonOptions: { registry },
    useHttpGet: request.useGetHttpMethod,
    ...(tls ? { ca: serverTlsCert } : {}),
    ...(clientTlsCreds === undefined ? {} : { cert: clientTlsCreds.cert, key: clientTlsCreds.key }),
  };
}

async function answer(request: ClientCompatRequest): Promise<ClientCompatResponse["result"]> {
  try {
    const { transport, close } = createNodeTransport(transportOptions(request));
    try {
      return { case: "response", value: await makeCall(transport, request) };
    } finally {
      close();
    }
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { case: "error", value: create(ClientErrorResultSchema, { message }) };
  }
}

const running = new Set<Promise<void>>();
for await (const frame of readFrames(process.stdin)) {
  const request = fromBinary(ClientCompatRequestSchema, frame);
  const call = answer(request).then((result) => {
    running.delete(call);
    const response = create(ClientCompatResponseSchema, { testName: request.testName, result });
    writeFrame(process.stdout, toBinary(ClientCompatResponseSchema, response));
  });
  running.add(call);
  if (running.size >= parallel) await Promise.race(running);
}
await Promise.all(running);
