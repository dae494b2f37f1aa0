import { Code, ConnectError } from "@connectrpc/connect";
import { Http2SessionManager } from "@connectrpc/connect-node";
import { constants } from "node:http2";
import type {
  ClientHttp2Session,
  ClientHttp2Stream,
  ClientSessionOptions,
  IncomingHttpHeaders,
  OutgoingHttpHeaders,
  SecureClientSessionOptions,
} from "node:http2";
import type { ClientExchange, OpenExchange, ResponseReceiver } from "./client-exchange.ts";

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
  };
  const sessions = new Http2SessionManager(url, options, session);
  const widened = new WeakSet<ClientHttp2Session>();
  return {
    sessions,
    async open({ method, url: target, header }, receiver) {
      const { pathname, search } = new URL(target);
      const stream = await sessions.request(method, pathname + search, toNodeHeaders(header), {});
      const connection = stream.session as ClientHttp2Session | undefined;
      if (connection !== undefined && !widened.has(connection)) {
        widened.add(connection);
        if (!connection.destroyed) connection.setLocalWindowSize(options.connectionWindow);
      }
      return new Http2Exchange(stream, sessions, receiver);
    },
  };
}

class Http2Exchange implements ClientExchange {
  readonly #stream: ClientHttp2Stream;

  constructor(stream: ClientHttp2Stream, sessions: Http2SessionManager, receiver: ResponseReceiver) {
    this.#stream = stream;
    let trailer = new Headers();
    let over = false;
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
      if (!stream.readableEnded && !isLateWrite(error)) fail(errorOfNode(error));
    });
    stream.on("end", () => {
      // A reset ends the readable side too: then the code says what it was.
      if (over || errorOfReset(stream.rstCode) !== undefined) return;
      over = true;
      receiver.onEnd(trailer);
    });
    stream.on("close", () => {
      fail(
        errorOfReset(stream.rstCode) ??
          new ConnectError("the connection ended before the response was complete", Code.Unavailable),
      );
    });
  }

  write(pieces: readonly Uint8Array[], sent: () => void): boolean {
    const stream = this.#stream;
    // The server may have answered without waiting for the rest.
    if (stream.destroyed || stream.writableEnded) return true;
    const last = pieces.length - 1;
    // After a failure the memory may still be in a queue below.
    const done = (error?: Error | null): void => {
      if (error == null) sent();
    };
    if (last === 0) return stream.write(pieces[0], done);
    stream.cork();
    let open = true;
    for (const [i, piece] of pieces.entries()) open = i === last ? stream.write(piece, done) : stream.write(piece);
    stream.uncork();
    return open;
  }

  end(): void {
    if (!this.#stream.destroyed && !this.#stream.writableEnded) this.#stream.end();
  }

  reset(why: "canceled" | "error"): void {
    if (this.#stream.closed) return;
    this.#stream.close(why === "canceled" ? constants.NGHTTP2_CANCEL : constants.NGHTTP2_INTERNAL_ERROR);
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }
}

function isLateWrite(error: Error): boolean {
  return (error as NodeJS.ErrnoException).code === "ERR_STREAM_WRITE_AFTER_END";
}

/** What an error of Node's means for a call. */
function errorOfNode(error: Error): ConnectError {
  const reset = /^Stream closed with error code NGHTTP2_(\w+)$/.exec(error.message)?.[1];
  if (reset !== undefined) {
    const code = (constants as unknown as Record<string, number | undefined>)[`NGHTTP2_${reset}`];
    const byReset = code === undefined ? undefined : errorOfReset(code);
    if (byReset !== undefined) return byReset;
  }
  switch ((error as NodeJS.ErrnoException).code) {
    case "ERR_STREAM_DESTROYED":
    case "ERR_HTTP2_INVALID_STREAM":
    case "ERR_HTTP2_STREAM_CANCEL":
    case "ECONNRESET":
    case "EPIPE":
      return wrap(error, Code.Aborted);
    case "ETIMEDOUT":
    case "ENOTFOUND":
    case "EAI_AGAIN":
    case "ECONNREFUSED":
    case "ERR_HTTP2_GOAWAY_SESSION":
      return wrap(error, Code.Unavailable);
    default:
      return wrap(error, Code.Internal);
  }
}

function wrap(error: Error, code: Code): ConnectError {
  if (error instanceof ConnectError) return error;
  // A connection that is given up takes the reason with it.
  if (error.cause instanceof ConnectError) return error.cause;
  return new ConnectError(error.message, code, undefined, undefined, error);
}

/** gRPC's mapping (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors), which Connect follows. */
const codesOfReset: Readonly<Record<number, Code>> = {
  [constants.NGHTTP2_PROTOCOL_ERROR]: Code.Internal,
  [constants.NGHTTP2_INTERNAL_ERROR]: Code.Internal,
  [constants.NGHTTP2_FLOW_CONTROL_ERROR]: Code.Internal,
  [constants.NGHTTP2_SETTINGS_TIMEOUT]: Code.Internal,
  [constants.NGHTTP2_FRAME_SIZE_ERROR]: Code.Internal,
  [constants.NGHTTP2_REFUSED_STREAM]: Code.Unavailable,
  [constants.NGHTTP2_CANCEL]: Code.Canceled,
  [constants.NGHTTP2_COMPRESSION_ERROR]: Code.Internal,
  [constants.NGHTTP2_CONNECT_ERROR]: Code.Internal,
  [constants.NGHTTP2_ENHANCE_YOUR_CALM]: Code.ResourceExhausted,
  [constants.NGHTTP2_INADEQUATE_SECURITY]: Code.PermissionDenied,
  [constants.NGHTTP2_HTTP_1_1_REQUIRED]: Code.PermissionDenied,
};

function errorOfReset(rstCode: number | undefined): ConnectError | undefined {
  const code = rstCode === undefined ? undefined : codesOfReset[rstCode];
  if (rstCode === undefined || code === undefined) return undefined;
  return new ConnectError(`the HTTP/2 stream was reset with error code 0x${rstCode.toString(16)}`, code);
}

function toNodeHeaders(header: Headers): OutgoingHttpHeaders {
  return Object.fromEntries(header);
}

function fromNodeHeaders(headers: IncomingHttpHeaders): Headers {
  const result = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(":") || value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) result.append(name, one);
  }
  return result;
}
