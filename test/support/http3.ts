import type { ConnectError } from "@connectrpc/connect";
import { onTestFinished } from "vitest";
import type { ClientExchange, OpenExchange, ResponseReceiver } from "../../src/client/client-exchange.ts";
import { createHttp3Exchanges } from "../../src/client/node-http3-exchange.ts";
import { resolveConfig } from "../../src/config.ts";
import type { Config } from "../../src/config.ts";
import { listenHttp3 } from "../../src/http3/listener.ts";
import type { Http3Listener } from "../../src/http3/listener.ts";
import { createDevCertificates } from "../../src/listen/dev-certificate.ts";
import type { HttpExchange } from "../../src/runtime/exchange.ts";
import { deferred } from "./deadline.ts";

export const tlsFiles = await createDevCertificates({ hosts: ["127.0.0.1", "::1", "localhost"], days: 2 });

const MiB = 1024 * 1024;
export const windows = { streamWindow: MiB, connectionWindow: 4 * MiB };

/** A listener on a free UDP port of loopback, closed at the end of the test. */
export async function useHttp3(
  serve: (exchange: HttpExchange) => void,
  config: Partial<Config> = {},
): Promise<{ listener: Http3Listener; url: string }> {
  const listener = await listenHttp3(serve, { ...resolveConfig({ port: 0, ...config }), tls: tlsFiles });
  onTestFinished(() => listener.close());
  return { listener, url: `https://127.0.0.1:${listener.port}` };
}

/** How to make requests of a server, until the end of the test. */
export function useHttp3Client(url: string, ca = tlsFiles.ca): OpenExchange {
  return useHttp3Connection(url, ca).open;
}

/** The same, to be closed by the test; at the latest it is at its end. */
export function useHttp3Connection(
  url: string,
  ca = tlsFiles.ca,
): { readonly open: OpenExchange; readonly close: () => void } {
  const made = createHttp3Exchanges(url, {
    ...windows,
    pingIntervalMs: 60_000,
    pingTimeoutMs: 60_000,
    tls: { ca },
  });
  onTestFinished(made.close);
  return made;
}

/** Notes what comes. */
export class Received implements ResponseReceiver {
  readonly head = deferred<{ status: number; header: Headers }>();
  readonly end = deferred<Headers>();
  readonly chunks: Uint8Array[] = [];
  bytes = 0;
  /** Called for each chunk and drain. */
  onEach = (): void => undefined;
  drained = (): void => undefined;

  constructor() {
    this.head.promise.catch(() => undefined);
    this.end.promise.catch(() => undefined);
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString();
  }

  onHead(status: number, header: Headers): void {
    this.head.resolve({ status, header });
  }

  onChunk(chunk: Uint8Array): void {
    this.chunks.push(chunk);
    this.bytes += chunk.byteLength;
    this.onEach();
  }

  onEnd(trailer: Headers): void {
    this.end.resolve(trailer);
  }

  onError(error: ConnectError): void {
    this.head.reject(error);
    this.end.reject(error);
  }

  onDrain(): void {
    this.drained();
  }
}

/** Writes, and waits if the peer does not keep up. */
export async function put(to: ClientExchange, received: Received, bytes: Uint8Array): Promise<void> {
  const drained = deferred();
  received.drained = drained.resolve;
  if (!to.write([bytes], () => undefined)) await drained.promise;
}
