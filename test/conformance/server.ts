/**
 * The server under test. Takes a ServerCompatRequest from standard input, serves
 * the suite's service with Sluice's runtime behind Sluice's listener, and says
 * on standard output where.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { resolveConfig } from "../../src/config.ts";
import { listenHttp3 } from "../../src/http3/listener.ts";
import { listen } from "../../src/listen/listen.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { readFrames, writeFrame } from "./framing.ts";
import { HTTPVersion } from "./gen/connectrpc/conformance/v1/config_pb.ts";
import {
  ServerCompatRequestSchema,
  ServerCompatResponseSchema,
} from "./gen/connectrpc/conformance/v1/server_compat_pb.ts";
import type { ServerCompatRequest } from "./gen/connectrpc/conformance/v1/server_compat_pb.ts";
import { registerConformance } from "./service.ts";

const host = "127.0.0.1";

async function readRequest(): Promise<ServerCompatRequest> {
  for await (const frame of readFrames(process.stdin)) return fromBinary(ServerCompatRequestSchema, frame);
  throw new Error("standard input has no ServerCompatRequest");
}

const request = await readRequest();
const { httpVersion, useTls, serverCreds, clientTlsCert, messageReceiveLimit } = request;
if (useTls && serverCreds === undefined) throw new Error("the suite asks for TLS and has given no certificate");

/** The defaults of `sluice serve`, but for what the suite asks for. */
const config = resolveConfig({
  host,
  port: 0,
  // The suite's messages are small: all are compressed if the client accepts it, so that it is tried at all.
  compressStreams: true,
  compressMinBytes: 0,
  // The batches are those of a service that does not run here, and must fit.
  ...(messageReceiveLimit === 0 ? {} : { maxMessageBytes: messageReceiveLimit, maxBatchBytes: messageReceiveLimit }),
});
const runtime = createRuntime({
  ...config,
  routes: registerConformance,
  interceptors: [],
  onUnexpected(error) {
    console.error(error);
  },
});
const tls =
  useTls && serverCreds !== undefined
    ? {
        cert: Buffer.from(serverCreds.cert),
        key: Buffer.from(serverCreds.key),
        ...(clientTlsCert.byteLength === 0 ? {} : { clientCa: Buffer.from(clientTlsCert) }),
      }
    : undefined;
const listener =
  httpVersion === HTTPVersion.HTTP_VERSION_3 && tls !== undefined
    ? await listenHttp3(runtime.serve, { ...config, tls })
    : await listen(nodeHandlers(runtime.serve), { ...config, tls });
// The suite sends it when it is done with this server.
process.once("SIGTERM", () => {
  void listener.close();
});
writeFrame(
  process.stdout,
  toBinary(
    ServerCompatResponseSchema,
    create(ServerCompatResponseSchema, {
      host,
      port: listener.port,
      ...(useTls && serverCreds !== undefined ? { pemCert: serverCreds.cert } : {}),
    }),
  ),
);
