/** The typed client for Node. `sluice/web` is for browsers. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { Client, Interceptor } from "@connectrpc/connect";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { linkSignals } from "../async/signals.ts";
import { createCertificateInterceptor } from "./certificate-errors.ts";
import { createStreamingClient } from "./streaming-client.ts";
import { createDataClient } from "./data-client.ts";
import type { DataClient } from "./data-client.ts";
import { createNodeTransport } from "./node-transport.ts";
import { createStreamOpener } from "./open-stream.ts";
import type { OpenStream } from "./open-stream.ts";
import type { RetryOptions } from "./retry.ts";
import { createTokenInterceptor } from "./token-interceptor.ts";
import type { TokenSource } from "./token-interceptor.ts";

export type { Ack, Appender, AppenderOptions } from "./appender.ts";
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
export { createHttp3Transport } from "./node-http3-transport.ts";
export type { Http3Transport, Http3TransportOptions } from "./node-http3-transport.ts";
export { StreamDeniedError } from "./open-stream.ts";
export type { OpenStream, OpenStreamOptions, OpenedStream } from "./open-stream.ts";
export { isBroken } from "./retry.ts";
export type { OnRetry, RetryOptions } from "./retry.ts";
export type { TokenSource } from "./token-interceptor.ts";
export type { UploadOptions, UploadResult } from "./upload.ts";

export interface SluiceClientOptions {
  /** Such as `http://127.0.0.1:8080`. */
  readonly url: string;
  /** Sent with every call. It can be read by anybody on the way unless the URL is https. */
  readonly token?: TokenSource;
  /** PEM with the CA to trust for https. Default: the system's. */
  readonly ca?: string | Uint8Array;
  /** PEM with a certificate to present to a server that asks for one, and its key. */
  readonly cert?: string | Uint8Array;
  readonly key?: string | Uint8Array;
  /** Default "connect". */
  readonly protocol?: "connect" | "grpc" | "grpc-web";
  /** Default "2". On "1.1" there is no full duplex: an appender sends one batch at a time. "3" needs https. */
  readonly httpVersion?: "1.1" | "2" | "3";
  /** Deadline of each call, in milliseconds. Default: none. */
  readonly timeoutMs?: number;
  /** Largest message that is read, in bytes. Default 16 MiB. */
  readonly readMaxBytes?: number;
  readonly retry?: Partial<RetryOptions>;
  /** Run outside the client's own. */
  readonly interceptors?: readonly Interceptor[];
}

export interface SluiceClient {
  /** The generated stubs; leaving a response loop early cancels its call. */
  readonly greet: Client<typeof GreetService>;
  readonly health: Client<typeof Health>;
  readonly data: DataClient;
  /** Takes a stream over, on the same connections. Needs httpVersion "2" or "3". */
  readonly openStream: OpenStream;
  /** Ends every call and connection. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export function createSluiceClient(options: SluiceClientOptions): SluiceClient {
  const { token, protocol = "connect", httpVersion = "2", timeoutMs, readMaxBytes, ca, cert, key, retry } = options;
  const closing = linkSignals();
  const { transport, open, close } = createNodeTransport({
    url: options.url,
    protocol,
    httpVersion,
    interceptors: [
      ...(options.interceptors ?? []),
      createCertificateInterceptor(options.url),
      cancelWith(closing.signal),
      ...(token === undefined ? [] : [createTokenInterceptor(token)]),
    ],
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(readMaxBytes === undefined ? {} : { readMaxBytes }),
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
  });
  const client = {
    greet: createStreamingClient(GreetService, transport),
    health: createStreamingClient(Health, transport),
    data: createDataClient(transport, {
      fullDuplex: httpVersion !== "1.1",
      retry: { ...retry, closed: closing.signal },
    }),
    openStream: createStreamOpener({
      url: options.url,
      open: httpVersion === "1.1" ? undefined : open,
      token,
      timeoutMs,
      closing: closing.signal,
    }),
    close(): Promise<void> {
      closing.abort(new ConnectError("the client was closed", Code.Canceled));
      close();
      return Promise.resolve();
    },
    [Symbol.asyncDispose]: () => client.close(),
  };
  return client;
}

/** Ends calls when the client is closed. */
function cancelWith(closing: AbortSignal): Interceptor {
  return (next) => async (req) => {
    const call = linkSignals(req.signal, closing);
    try {
      const response = await next({ ...req, signal: call.signal });
      if (!response.stream) call.cleanup();
      return response;
    } catch (error) {
      call.cleanup();
      throw error;
    }
  };
}
