import type { Interceptor, Transport } from "@connectrpc/connect";
import { createCertificateInterceptor } from "./certificate-errors.ts";
import { createNodeTransport } from "./node-transport.ts";
import type { NodeTransportOptions } from "./node-transport.ts";
import { createTokenInterceptor } from "./token-interceptor.ts";
import type { TokenSource } from "./token-interceptor.ts";

export interface Http3TransportOptions extends Omit<
  NodeTransportOptions,
  "url" | "protocol" | "httpVersion" | "interceptors"
> {
  /** Such as `https://localhost:8443`; the port is UDP's. */
  readonly baseUrl: string;
  /** Sent with every call. Default: none. */
  readonly token?: TokenSource;
  /** Default "connect". */
  readonly protocol?: NodeTransportOptions["protocol"];
  readonly interceptors?: readonly Interceptor[];
}

/** Connections are made for the first call, and replaced when they are lost. */
export interface Http3Transport extends Transport {
  /** Ends every call and the connection. */
  close(this: void): void;
}

/**
 * A transport over HTTP/3, in all shapes, for stubs of your own:
 * `createClient(YourService, createHttp3Transport({ baseUrl }))`.
 *
 * Its calls fail with UNAVAILABLE if the server cannot be reached over UDP, with
 * INTERNAL and a message that says which if its certificate is not trusted or is
 * another host's, and if there is no engine for this machine.
 */
export function createHttp3Transport(options: Http3TransportOptions): Http3Transport {
  const { baseUrl, token, protocol = "connect", interceptors = [], ...rest } = options;
  const { transport, close } = createNodeTransport({
    ...rest,
    url: baseUrl,
    httpVersion: "3",
    protocol,
    interceptors: [
      ...interceptors,
      createCertificateInterceptor(baseUrl),
      ...(token === undefined ? [] : [createTokenInterceptor(token)]),
    ],
  });
  return { ...transport, close };
}
