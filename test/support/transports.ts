import type { Interceptor, Transport } from "@connectrpc/connect";
import {
  Http2SessionManager,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { createNodeTransport } from "../../src/client/node-transport.ts";

export type Protocol = "connect" | "grpc" | "grpc-web";

/** One column of the compatibility table. */
export interface Lane {
  readonly protocol: Protocol;
  readonly httpVersion: "1.1" | "2" | "3";
  readonly tls: boolean;
  readonly json?: boolean;
}

/**
 * Every combination that the specifications allow: gRPC needs HTTP/2
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md); Connect and
 * gRPC-Web take either.
 */
export const lanes: readonly Lane[] = [false, true].flatMap((tls) => [
  { protocol: "connect" as const, httpVersion: "1.1" as const, tls },
  { protocol: "connect" as const, httpVersion: "2" as const, tls },
  { protocol: "connect" as const, httpVersion: "2" as const, tls, json: true },
  { protocol: "grpc-web" as const, httpVersion: "1.1" as const, tls },
  { protocol: "grpc-web" as const, httpVersion: "2" as const, tls },
  { protocol: "grpc" as const, httpVersion: "2" as const, tls },
]);

/** Over QUIC, with our own client: Connect has none. */
export const http3Lanes: readonly Lane[] = [
  { protocol: "connect", httpVersion: "3", tls: true },
  { protocol: "connect", httpVersion: "3", tls: true, json: true },
  { protocol: "grpc-web", httpVersion: "3", tls: true },
  { protocol: "grpc", httpVersion: "3", tls: true },
];

export function laneName({ protocol, httpVersion, tls, json }: Lane): string {
  const http = tls ? `TLS, HTTP/${httpVersion}` : httpVersion === "2" ? "h2c" : "HTTP/1.1";
  return `${protocol}${json === true ? " (JSON)" : ""} over ${http}`;
}

/** A transport, Connect's own where it has one, and how to close its connections. */
export function createTransport(
  lane: Lane,
  baseUrl: string,
  options: { ca?: string; token?: string } = {},
): { transport: Transport; close: () => void } {
  const nodeOptions = options.ca === undefined ? {} : { ca: options.ca };
  const token = options.token ?? "sample";
  const authorize: Interceptor = (next) => (req) => {
    req.header.set("Authorization", `Bearer ${token}`);
    return next(req);
  };
  const common = {
    baseUrl,
    interceptors: token === "" ? [] : [authorize],
    useBinaryFormat: lane.json !== true,
    acceptCompression: [],
  };
  if (lane.httpVersion === "3") {
    return createNodeTransport({
      ...common,
      url: baseUrl,
      protocol: lane.protocol,
      httpVersion: "3",
      readMaxBytes: 16 * 1024 * 1024,
      ...nodeOptions,
    });
  }
  if (lane.httpVersion === "1.1") {
    const http1 = { ...common, httpVersion: "1.1" as const, nodeOptions };
    return {
      transport: lane.protocol === "grpc-web" ? createGrpcWebTransport(http1) : createConnectTransport(http1),
      close: () => undefined,
    };
  }
  const sessionManager = new Http2SessionManager(baseUrl, {}, nodeOptions);
  const http2 = { ...common, httpVersion: "2" as const, sessionManager };
  const create = {
    connect: createConnectTransport,
    grpc: createGrpcTransport,
    "grpc-web": createGrpcWebTransport,
  }[lane.protocol];
  return {
    transport: create(http2),
    close: () => {
      sessionManager.abort();
    },
  };
}
