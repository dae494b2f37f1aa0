/** The typed client for browsers: over WebTransport all shapes of calls, over fetch unary calls and server streaming. */
import type { Client, Interceptor } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { createBrowserTransport } from "./browser-transport.ts";
import type { BrowserTransport, BrowserTransportOptions } from "./browser-transport.ts";
import { createStreamingClient } from "./streaming-client.ts";
import { createDataClient } from "./data-client.ts";
import type { DataClient } from "./data-client.ts";
import type { RetryOptions } from "./retry.ts";
import { createTokenInterceptor } from "./token-interceptor.ts";
import type { TokenSource } from "./token-interceptor.ts";

export type { Ack, Appender, AppenderOptions } from "./appender.ts";
export { createBrowserTransport } from "./browser-transport.ts";
export type { BrowserTransport, BrowserTransportOptions, Carrier } from "./browser-transport.ts";
export type {
  AppendOptions,
  CreateStreamOptions,
  DataClient,
  StreamInfo,
  StreamRetention,
  UpdateStreamOptions,
} from "./data-client.ts";
export { checkpointAfter, formatCheckpoint, parseCheckpoint } from "./checkpoint.ts";
export type { Checkpoint } from "./checkpoint.ts";
export { dataErrorOf, describeError } from "./errors.ts";
export type { DataExchange, ExchangeEvent, ExchangeOptions } from "./exchange.ts";
export type { ReadOptions } from "./read.ts";
export type { ReadFrom, ReadRecord, RecordInit } from "./records.ts";
export type { OnRetry, RetryOptions } from "./retry.ts";
export type { TokenSource } from "./token-interceptor.ts";
export type { UploadOptions, UploadResult } from "./upload.ts";
export type { Datagrams } from "./webtransport-datagrams.ts";
export type { CertificateHash, OpenSession } from "./webtransport-session.ts";
export { createWebTransportTransport } from "./webtransport-transport.ts";
export type { WebTransportTransport, WebTransportTransportOptions } from "./webtransport-transport.ts";

export interface SluiceWebClientOptions {
  /** Such as `https://sluice.example.com`. The server must list the page's origin in --cors-origins. */
  readonly url: string;
  readonly token?: TokenSource;
  /** Default "connect". */
  readonly protocol?: "connect" | "grpc-web";
  /** Deadline of each call, in milliseconds. Default: none. */
  readonly timeoutMs?: number;
  readonly retry?: Partial<RetryOptions>;
  readonly interceptors?: readonly Interceptor[];
  /** Default: the page's own. */
  readonly fetch?: typeof globalThis.fetch;
}

/**
 * What works over fetch. Client streaming and bidi need what no browser's fetch
 * has; `data.append` and `data.appender` take their place for appends.
 */
export interface SluiceWebClient {
  readonly greet: Pick<Client<typeof GreetService>, "greet" | "greetRepeatedly">;
  readonly health: Client<typeof Health>;
  readonly data: Omit<DataClient, "upload" | "exchange">;
}

export function createSluiceWebClient(options: SluiceWebClientOptions): SluiceWebClient {
  const { url, token, protocol = "connect", timeoutMs, retry, fetch } = options;
  const create = protocol === "connect" ? createConnectTransport : createGrpcWebTransport;
  const transport = create({
    baseUrl: url,
    interceptors: [...(options.interceptors ?? []), ...(token === undefined ? [] : [createTokenInterceptor(token)])],
    ...(timeoutMs === undefined ? {} : { defaultTimeoutMs: timeoutMs }),
    ...(fetch === undefined ? {} : { fetch }),
  });
  return {
    greet: createStreamingClient(GreetService, transport),
    health: createStreamingClient(Health, transport),
    data: createDataClient(transport, { fullDuplex: false, ...(retry === undefined ? {} : { retry }) }),
  };
}

export interface SluiceBrowserClientOptions extends Omit<BrowserTransportOptions, "baseUrl"> {
  /** Such as `https://sluice.example.com`. The server must list the page's origin in --cors-origins. */
  readonly url: string;
  readonly retry?: Partial<RetryOptions>;
}

/** All calls. Those that stream requests fail with UNIMPLEMENTED where there is no WebTransport. */
export interface SluiceBrowserClient {
  readonly greet: Client<typeof GreetService>;
  readonly health: Client<typeof Health>;
  readonly data: DataClient;
  /** What calls go over, and the session with its datagrams. */
  readonly transport: BrowserTransport;
  close(): void;
}

/** Over WebTransport where the browser and the server have it, and over fetch elsewhere. */
export function createSluiceBrowserClient({ url, retry, ...options }: SluiceBrowserClientOptions): SluiceBrowserClient {
  const transport = createBrowserTransport({ ...options, baseUrl: url });
  return {
    greet: createStreamingClient(GreetService, transport),
    health: createStreamingClient(Health, transport),
    data: createDataClient(transport, {
      fullDuplex: async () => (await transport.carrier()).kind === "webtransport",
      ...(retry === undefined ? {} : { retry }),
    }),
    transport,
    close: () => {
      transport.close();
    },
  };
}
