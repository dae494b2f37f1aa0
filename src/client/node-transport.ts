import type { Interceptor, Transport } from "@connectrpc/connect";
import { createTransport as createConnectProtocol } from "@connectrpc/connect/protocol-connect";
import { createTransport as createGrpcProtocol } from "@connectrpc/connect/protocol-grpc";
import { createTransport as createGrpcWebProtocol } from "@connectrpc/connect/protocol-grpc-web";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import type { ConnectTransportOptions } from "@connectrpc/connect-node";
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { ByteSink } from "../wire/byte-sink.ts";
import { allocateUncleared, turns } from "../wire/node-platform.ts";
import type { OpenExchange } from "./client-exchange.ts";
import { withDeadline } from "./deadline.ts";
import { createHttp1Exchanges } from "./node-http1-exchange.ts";
import { createHttp2Exchanges } from "./node-http2-exchange.ts";
import { createHttp3Exchanges } from "./node-http3-exchange.ts";
import { createUniversalClient } from "./universal-client.ts";
import { createStreamTransport } from "./stream-transport.ts";

/** What goes over the wire, in Connect's own terms. Default: binary, POST, no compression. */
type WireOptions = Pick<
  ConnectTransportOptions,
  "useBinaryFormat" | "useHttpGet" | "sendCompression" | "acceptCompression" | "compressMinBytes" | "jsonOptions"
>;

export interface NodeTransportOptions extends WireOptions {
  readonly url: string;
  /** PEM, to trust for https instead of the system's CAs. */
  readonly ca?: string | Uint8Array;
  /** PEM with a certificate to present to the server, and its key. */
  readonly cert?: string | Uint8Array;
  readonly key?: string | Uint8Array;
  readonly protocol: "connect" | "grpc" | "grpc-web";
  /** "3" needs https. */
  readonly httpVersion: "1.1" | "2" | "3";
  readonly timeoutMs?: number;
  readonly interceptors: Interceptor[];
  /** Largest message that is read, in bytes. Default 16 MiB. */
  readonly readMaxBytes?: number;
  /** What a server may send ahead on one stream of HTTP/2 or HTTP/3, in bytes. Default 1 MiB. */
  readonly streamWindow?: number;
  /** What a server may send ahead on one such connection, in bytes. Default 16 MiB. */
  readonly connectionWindow?: number;
  /** Responses of one stream that wait for their reader before the server is asked to pause, in bytes. Default 256 KiB. */
  readonly streamBufferBytes?: number;
}

/** How often an idle HTTP/2 connection with open calls is checked, in milliseconds. */
const pingIntervalMs = 30_000;
/** How long the answer to that may take, in milliseconds. */
const pingTimeoutMs = 10_000;

const KiB = 1024;
const MiB = 1024 * KiB;

/** A transport with connections of its own, what else to do with them, and how to end them. */
export function createNodeTransport(options: NodeTransportOptions): {
  transport: Transport;
  open: OpenExchange;
  close: () => void;
} {
  const { url, ca, cert, key, protocol, httpVersion, timeoutMs, readMaxBytes = 16 * MiB, ...wire } = options;
  const tls = { ...pem("ca", ca), ...pem("cert", cert), ...pem("key", key) };
  const common = {
    baseUrl: url,
    // A server that compresses streams moves a fraction of the messages: see README.
    acceptCompression: [],
    ...wire,
    readMaxBytes,
    ...(timeoutMs === undefined ? {} : { defaultTimeoutMs: timeoutMs }),
  };
  const { ofConnect, open, close } =
    httpVersion === "1.1"
      ? overHttp1(url, protocol, tls, common)
      : httpVersion === "2"
        ? overHttp2(options, tls, common)
        : overHttp3(options, tls, common);
  const stream = createStreamTransport({
    baseUrl: url,
    protocol,
    useBinaryFormat: options.useBinaryFormat ?? true,
    jsonOptions: options.jsonOptions,
    interceptors: options.interceptors,
    acceptCompression: common.acceptCompression,
    sendCompression: options.sendCompression ?? null,
    compressMinBytes: options.compressMinBytes ?? KiB,
    readMaxBytes,
    streamBufferBytes: options.streamBufferBytes ?? 256 * KiB,
    defaultTimeoutMs: timeoutMs,
    open,
    sink: new ByteSink(allocateUncleared),
    turns,
    allocate: allocateUncleared,
  });
  return { transport: { unary: withDeadline(ofConnect, timeoutMs), stream }, open, close };
}

type Tls = Partial<Record<"ca" | "cert" | "key", string | Buffer>>;
type Common = Omit<ConnectTransportOptions, "httpVersion" | "nodeOptions"> &
  Required<Pick<ConnectTransportOptions, "acceptCompression" | "readMaxBytes">>;

/** What carries calls: Connect's own transport for unary ones, and exchanges for streams. */
interface Carrier {
  readonly ofConnect: Transport;
  readonly open: OpenExchange;
  readonly close: () => void;
}

function overHttp1(url: string, protocol: NodeTransportOptions["protocol"], tls: Tls, common: Common): Carrier {
  if (protocol === "grpc") throw new TypeError('gRPC needs HTTP/2: use httpVersion "2", or protocol "grpc-web"');
  const agent = url.startsWith("https:")
    ? new HttpsAgent({ keepAlive: true, ...tls })
    : new HttpAgent({ keepAlive: true });
  const http1 = { ...common, httpVersion: "1.1" as const, nodeOptions: { agent, ...tls } };
  return {
    ofConnect: protocol === "connect" ? createConnectTransport(http1) : createGrpcWebTransport(http1),
    open: createHttp1Exchanges(agent),
    close: () => {
      agent.destroy();
    },
  };
}

function overHttp2(options: NodeTransportOptions, tls: Tls, common: Common): Carrier {
  const { open, sessions } = createHttp2Exchanges(options.url, {
    pingIntervalMs,
    pingTimeoutMs,
    streamWindow: options.streamWindow ?? MiB,
    connectionWindow: options.connectionWindow ?? 16 * MiB,
    tls,
  });
  const create = { connect: createConnectTransport, grpc: createGrpcTransport, "grpc-web": createGrpcWebTransport };
  return {
    ofConnect: create[options.protocol]({ ...common, httpVersion: "2", sessionManager: sessions }),
    open,
    close: () => {
      sessions.abort();
    },
  };
}

function overHttp3(options: NodeTransportOptions, tls: Tls, common: Common): Carrier {
  if (!options.url.startsWith("https:")) throw new TypeError("HTTP/3 needs an https URL: QUIC is always encrypted");
  const { open, close } = createHttp3Exchanges(options.url, {
    pingIntervalMs,
    pingTimeoutMs,
    streamWindow: options.streamWindow ?? MiB,
    connectionWindow: options.connectionWindow ?? 16 * MiB,
    tls,
  });
  const create = { connect: createConnectProtocol, grpc: createGrpcProtocol, "grpc-web": createGrpcWebProtocol };
  return {
    ofConnect: create[options.protocol]({
      ...common,
      httpClient: createUniversalClient(open),
      interceptors: options.interceptors,
      useBinaryFormat: options.useBinaryFormat ?? true,
      sendCompression: options.sendCompression ?? null,
      compressMinBytes: options.compressMinBytes ?? KiB,
      writeMaxBytes: 0xffffffff,
    }),
    open,
    close,
  };
}

/** One of Node's TLS options, if it is given. */
function pem<K extends string>(name: K, value: string | Uint8Array | undefined): Partial<Record<K, string | Buffer>> {
  if (value === undefined) return {};
  return { [name]: typeof value === "string" ? value : Buffer.from(value) } as Record<K, string | Buffer>;
}
