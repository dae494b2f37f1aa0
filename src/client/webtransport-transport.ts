import type { Interceptor, Transport } from "@connectrpc/connect";
import { createTransport as createConnectProtocol } from "@connectrpc/connect/protocol-connect";
import { ByteSink } from "../wire/byte-sink.ts";
import { allocate, createWebTurns } from "../wire/web-platform.ts";
import { withDeadline } from "./deadline.ts";
import { createStreamTransport } from "./stream-transport.ts";
import { createTokenInterceptor } from "./token-interceptor.ts";
import type { TokenSource } from "./token-interceptor.ts";
import { createUniversalClient } from "./universal-client.ts";
import { createWebTransportExchanges } from "./webtransport-exchange.ts";
import { Sessions } from "./webtransport-session.ts";
import type { CertificateHash, OpenSession } from "./webtransport-session.ts";

export interface WebTransportTransportOptions {
  /** Such as `https://sluice.example.com:8443`. */
  readonly baseUrl: string;
  /** Default `/webtransport`, as the server's --webtransport-path. */
  readonly path?: string;
  /**
   * SHA-256 of certificates to accept instead of those that the browser trusts,
   * in hexadecimal as `sluice cert` prints them, or as bytes. Such a certificate
   * must be of ECDSA P-256, and valid for 14 days at most.
   */
  readonly serverCertificateHashes?: readonly CertificateHash[];
  /** Goes in the session's first message; one that may change also with each call. */
  readonly token?: TokenSource;
  /** Deadline of each call, in milliseconds. Default: none. */
  readonly timeoutMs?: number;
  readonly interceptors?: readonly Interceptor[];
  /** Default true: Protobuf's binary form rather than JSON. */
  readonly useBinaryFormat?: boolean;
  /** Largest message that is read, in bytes. Default 16 MiB. */
  readonly readMaxBytes?: number;
  /** How long it may take to open a session, in milliseconds. Default 10 seconds. */
  readonly connectTimeoutMs?: number;
}

/** A transport for all shapes of calls, each a stream of one session. */
export interface WebTransportTransport extends Transport {
  /** The session that calls go over, once there is one: for its datagrams. */
  session(): Promise<OpenSession>;
  /** Ends every call and the session. */
  close(): void;
}

const KiB = 1024;
const MiB = 1024 * KiB;
const connectTimeoutMs = 10_000;

/** Calls over WebTransport, for browsers that have it: all shapes, over one session, which is opened again when it is lost. */
export function createWebTransportTransport(options: WebTransportTransportOptions): WebTransportTransport {
  const { baseUrl, token, timeoutMs, readMaxBytes = 16 * MiB, useBinaryFormat = true } = options;
  const sessions = new Sessions({
    url: new URL(options.path ?? "/webtransport", baseUrl).toString(),
    token,
    serverCertificateHashes: options.serverCertificateHashes,
    connectTimeoutMs: options.connectTimeoutMs ?? connectTimeoutMs,
  });
  const open = createWebTransportExchanges(sessions);
  const common = {
    baseUrl,
    useBinaryFormat,
    interceptors: [
      ...(options.interceptors ?? []),
      ...(typeof token === "function" ? [createTokenInterceptor(token)] : []),
    ],
    acceptCompression: [],
    sendCompression: null,
    compressMinBytes: KiB,
    readMaxBytes,
  };
  const ofConnect = createConnectProtocol({
    ...common,
    httpClient: createUniversalClient(open),
    writeMaxBytes: 0xffffffff,
    ...(timeoutMs === undefined ? {} : { defaultTimeoutMs: timeoutMs }),
  });
  return {
    unary: withDeadline(ofConnect, timeoutMs),
    stream: createStreamTransport({
      ...common,
      protocol: "connect",
      jsonOptions: undefined,
      streamBufferBytes: 256 * KiB,
      defaultTimeoutMs: timeoutMs,
      open,
      sink: new ByteSink(allocate),
      turns: createWebTurns(),
      allocate,
    }),
    session: () => sessions.get(),
    close: () => {
      sessions.close();
    },
  };
}
