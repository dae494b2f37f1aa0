import type { ContextValues } from "@connectrpc/connect";
import type { BidirectionalStream } from "../wire/duplex-stream.ts";

/** A client that asks for a stream. It has sent its headers, and waits for the answer before it sends anything else. */
export interface StreamRequest {
  readonly path: string;
  /** Absolute. */
  readonly url: string;
  readonly query: URLSearchParams;
  readonly header: Headers;
  /** `principalKey` has who asks. */
  readonly values: ContextValues;
  /** Address and port of the client. */
  readonly peer: string;
  /** "2.0" or "3.0". */
  readonly httpVersion: string;
  /**
   * Aborted when the stream is over for any reason: the client went away, its token has expired, a deadline passed, the
   * server drains. In the latter cases the readable fails at once, and a second is left to end the writable in order.
   */
  readonly signal: AbortSignal;
  /**
   * Allows it: the client gets the headers, with status 200, and both sides may write. Fails if that has been decided
   * before, or if the client has gone.
   */
  accept(options?: { readonly header?: HeadersInit }): BidirectionalStream;
  /**
   * Denies it: the client gets the status (400 to 599) and the reason, and has sent nothing of the body. Fails if that
   * has been decided before.
   */
  deny(status: number, reason: string, options?: { readonly header?: HeadersInit }): void;
}

/**
 * Decides on a stream, now or later. What it throws before it has decided is the
 * answer, a ConnectError with its message; afterwards it cuts the stream. The
 * stream goes on after the handler has returned, until both directions are over.
 */
export type StreamHandler = (request: StreamRequest) => void | Promise<void>;

export interface StreamOptions {
  /** The scope that the token must have, such as `data:read:logs/app`. Default: `rpc:` and the path, as in `rpc:/tunnel`. */
  readonly scope?: string;
}

export interface StreamRouter {
  /** Serves the streams that are asked for at this path, such as `/tunnel`. */
  onStream(this: void, path: string, handler: StreamHandler, options?: StreamOptions): void;
}

export interface StreamRoute extends StreamOptions {
  readonly path: string;
  readonly handler: StreamHandler;
}

/** Collects the streams that `register` adds, by their path, which must be none of `taken`. */
export function collectStreams(
  register: ((router: StreamRouter) => void) | undefined,
  taken: { has(path: string): boolean },
): Map<string, StreamRoute> {
  const routes = new Map<string, StreamRoute>();
  register?.({
    onStream(path, handler, options = {}) {
      if (!/^\/[^?#\s]*$/.test(path)) throw new TypeError(`"${path}" is not a path such as /tunnel`);
      if (taken.has(path)) throw new TypeError(`${path} is an RPC's path`);
      if (routes.has(path)) throw new TypeError(`${path} has a handler already`);
      routes.set(path, { ...options, path, handler });
    },
  });
  return routes;
}
