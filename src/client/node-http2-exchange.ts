import { Code, ConnectError } from "@connectrpc/connect";
import { Http2SessionManager } from "@connectrpc/connect-node";
import { constants } from "node:http2";
import type {
  ClientHttp2Session,
  ClientHttp2Stream,
  ClientSessionOptions,
  IncomingHttpHeaders,
  SecureClientSessionOptions,
} from "node:http2";
import { holdSession } from "../wire/node-http2-hold.ts";
import { releaseStream } from "../wire/node-http2-release.ts";
import { resetStream } from "../wire/node-http2-reset.ts";
import { writePieces } from "../wire/node-platform.ts";
import type { ClientExchange, OpenExchange, ResponseReceiver } from "./client-exchange.ts";
import { errorOfNode, errorOfReset, isLateWrite } from "./node-errors.ts";
import { fromNodeHeaders, toNodeHeaders } from "../wire/node-headers.ts";

export interface Http2Options {
  /** How often a connection with open calls is checked, in milliseconds. */
  readonly pingIntervalMs: number;
  /** How long the answer to that may take, in milliseconds. */
  readonly pingTimeoutMs: number;
  /** Bytes that a server may send ahead on one stream, and on the connection. */
  readonly streamWindow: number;
  readonly connectionWindow: number;
  readonly tls: SecureClientSessionOptions;
}

/** How often the connection's keepalive is told that bytes have come, in milliseconds. */
const aliveMs = 1000;

/** Connections to a server, which Connect's session manager opens, checks and replaces. */
export function createHttp2Exchanges(
  url: string,
  options: Http2Options,
): { readonly open: OpenExchange; readonly sessions: Http2SessionManager } {
  const session: ClientSessionOptions | SecureClientSessionOptions = {
    ...options.tls,
    settings: { initialWindowSize: options.streamWindow, enablePush: false },
    // In MB. With Node's 10 some slow streams would keep the others of the connection from being opened.
    maxSessionMemory: 1000,
  };
  const sessions = new Http2SessionManager(url, options, session);
  const known = new WeakSet<ClientHttp2Session>();
  return {
    sessions,
    async open({ method, url: target, header, split = false }, receiver) {
      const { pathname, search } = new URL(target);
      const stream = await sessions.request(method, pathname + search, toNodeHeaders(header), {});
      const connection = stream.session as ClientHttp2Session | undefined;
      if (connection !== undefined && !known.has(connection)) {
        known.add(connection);
        holdSession(connection);
        if (!connection.destroyed) connection.setLocalWindowSize(options.connectionWindow);
      }
      return new Http2Exchange(stream, sessions, receiver, split);
    },
  };
}

class Http2Exchange implements ClientExchange {
  readonly #stream: ClientHttp2Stream;
  #ended = false;
  #stopped = false;

  constructor(stream: ClientHttp2Stream, sessions: Http2SessionManager, receiver: ResponseReceiver, split: boolean) {
    this.#stream = stream;
    let trailer = new Headers();
    let over = false;
    let answered = false;
    let aliveAt = 0;
    const fail = (error: ConnectError): void => {
      if (over) return;
      over = true;
      receiver.onError(error);
    };
    stream.on("response", (headers) => {
      receiver.onHead(headers[":status"] ?? 0, fromNodeHeaders(headers));
    });
    stream.on("trailers", (headers: IncomingHttpHeaders) => {
      trailer = fromNodeHeaders(headers);
    });
    stream.on("data", (chunk: Uint8Array) => {
      if (over) return;
      const now = performance.now();
      if (now - aliveAt > aliveMs) {
        aliveAt = now;
        sessions.notifyResponseByteRead(stream);
      }
      receiver.onChunk(chunk);
    });
    stream.on("drain", () => {
      receiver.onDrain();
    });
    stream.on("error", (error: Error) => {
      // The response may be whole although the request could not be sent to its end.
      if ((split || !stream.readableEnded) && !isLateWrite(error)) fail(errorOfNode(error));
    });
    stream.on("end", () => {
      // A reset ends the readable side too: then the code says what it was.
      if (over || errorOfReset(stream.rstCode) !== undefined) return;
      answered = true;
      over = !split;
      receiver.onEnd(trailer);
    });
    stream.on("close", () => {
      const error = errorOfReset(stream.rstCode);
      if (!answered || error !== undefined) {
        fail(error ?? new ConnectError("the connection ended before the response was complete", Code.Unavailable));
      } else if (!this.#ended && !over) {
        over = true;
        receiver.onStopped?.();
      }
      releaseStream(stream);
    });
  }

  write(pieces: readonly Uint8Array[], sent: () => void): boolean {
    const stream = this.#stream;
    // The server may have answered without waiting for the rest.
    if (stream.destroyed || stream.writableEnded) return true;
    return writePieces(stream, pieces, sent);
  }

  end(): void {
    const stream = this.#stream;
    if (stream.destroyed || stream.writableEnded) return;
    this.#ended = true;
    stream.end(() => {
      if (this.#stopped) this.reset("canceled");
    });
  }

  reset(why: "canceled" | "error"): void {
    if (this.#stream.closed) return;
    resetStream(this.#stream, why === "canceled" ? constants.NGHTTP2_CANCEL : constants.NGHTTP2_INTERNAL_ERROR);
  }

  stopReceiving(): void {
    const stream = this.#stream;
    // HTTP/2 can only cut both directions. Until the request is out, what comes is dropped.
    this.#stopped = true;
    stream.removeAllListeners("data");
    stream.resume();
    if (stream.writableFinished) this.reset("canceled");
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }
}
