import { Code, ConnectError } from "@connectrpc/connect";
import type { Interceptor, Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { createTokenInterceptor } from "./token-interceptor.ts";
import type { TokenSource } from "./token-interceptor.ts";
import { createWebTransportTransport } from "./webtransport-transport.ts";
import type { WebTransportTransport, WebTransportTransportOptions } from "./webtransport-transport.ts";

export interface BrowserTransportOptions {
  /** Such as `https://sluice.example.com`. The server must list the page's origin in --cors-origins. */
  readonly baseUrl: string;
  readonly token?: TokenSource;
  /** Of calls over fetch. Default "connect". */
  readonly protocol?: "connect" | "grpc-web";
  /** Deadline of each call, in milliseconds. Default: none. */
  readonly timeoutMs?: number;
  readonly interceptors?: readonly Interceptor[];
  /** Default: the page's own. */
  readonly fetch?: typeof globalThis.fetch;
  /** What differs for WebTransport; false: it is not used. Its URL is `baseUrl`'s unless given, as when HTTP/3 has another port. */
  readonly webTransport?:
    | false
    | (Partial<Pick<WebTransportTransportOptions, "baseUrl">> &
        Pick<WebTransportTransportOptions, "path" | "serverCertificateHashes" | "connectTimeoutMs" | "readMaxBytes">);
}

/** What carries calls now. */
export type Carrier =
  | { readonly kind: "webtransport"; readonly transport: WebTransportTransport }
  | { readonly kind: "fetch"; readonly transport: Transport; /** Why not WebTransport. */ readonly because: string };

export interface BrowserTransport extends Transport {
  /** Opens a session of WebTransport if that is possible, and tells what calls go over. */
  carrier(): Promise<Carrier>;
  close(): void;
}

/** After a session could not be opened, calls go over fetch for so long, in milliseconds. */
const pauseMs = 30_000;

/**
 * Calls over WebTransport where there is such a thing; elsewhere over fetch,
 * which carries unary calls and server streaming. Client and bidi streaming then
 * fail with UNIMPLEMENTED, and say what is missing.
 */
export function createBrowserTransport(options: BrowserTransportOptions): BrowserTransport {
  const { baseUrl, token, timeoutMs, interceptors = [], protocol = "connect", fetch, webTransport = {} } = options;
  const create = protocol === "connect" ? createConnectTransport : createGrpcWebTransport;
  const overFetch = create({
    baseUrl,
    interceptors: [...interceptors, ...(token === undefined ? [] : [createTokenInterceptor(token)])],
    ...(timeoutMs === undefined ? {} : { defaultTimeoutMs: timeoutMs }),
    ...(fetch === undefined ? {} : { fetch }),
  });
  const missing =
    webTransport === false
      ? "it is turned off"
      : !("WebTransport" in globalThis)
        ? "this browser does not have it"
        : undefined;
  const overWebTransport =
    missing !== undefined || webTransport === false
      ? undefined
      : createWebTransportTransport({
          baseUrl,
          interceptors,
          ...(token === undefined ? {} : { token }),
          ...(timeoutMs === undefined ? {} : { timeoutMs }),
          ...webTransport,
        });
  let failure: { readonly because: string; readonly until: number } | undefined;
  let closed = false;

  async function carrier(): Promise<Carrier> {
    const fallback = (because: string): Carrier => ({ kind: "fetch", transport: overFetch, because });
    if (overWebTransport === undefined) return fallback(missing ?? "");
    if (failure !== undefined && performance.now() < failure.until) return fallback(failure.because);
    try {
      await overWebTransport.session();
      failure = undefined;
      return { kind: "webtransport", transport: overWebTransport };
    } catch (error) {
      if (closed) throw error;
      const because = ConnectError.from(error).rawMessage;
      failure = { because, until: performance.now() + pauseMs };
      return fallback(because);
    }
  }

  return {
    carrier,
    async unary(...call) {
      return (await carrier()).transport.unary(...call);
    },
    async stream(method, ...call) {
      const by = await carrier();
      if (by.kind === "fetch" && method.methodKind !== "server_streaming") {
        const what = method.methodKind === "client_streaming" ? "client streaming" : "bidi streaming";
        throw new ConnectError(
          `${what} needs WebTransport, because fetch has no such thing: ${by.because}`,
          Code.Unimplemented,
        );
      }
      return by.transport.stream(method, ...call);
    },
    close() {
      closed = true;
      overWebTransport?.close();
    },
  };
}
