import { createServer as createHttp1Server } from "node:http";
import type { IncomingMessage, Server as Http1Server, ServerResponse } from "node:http";
import { constants, createServer as createHttp2Server } from "node:http2";
import type { Http2Server, IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import { guarded, raise } from "../async/guard.ts";
import type { OnUnexpected } from "../async/guard.ts";
import { holdSession } from "../wire/node-http2-hold.ts";
import { isOpen } from "../wire/node-http2-open.ts";
import { connectionResets } from "./admission.ts";
import type { Connections } from "./connections.ts";
import { endingSocket } from "./guarded-socket.ts";
import { HostForm } from "./host-header.ts";

/** Gets each request. */
export interface Handlers {
  /** Of HTTP/1.1. */
  onRequest(req: IncomingMessage, res: ServerResponse): void;
  /** Of HTTP/2. */
  onStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void;
}

export interface HttpServerOptions {
  /** Calls at once on one HTTP/2 connection. */
  readonly maxStreamsPerConnection: number;
  /** Calls a second that the peers of one address may abandon. */
  readonly maxResetRate: number;
  /** Bytes: HTTP/2's flow control window of each stream. */
  readonly streamWindow: number;
  /** Bytes: HTTP/2's flow control window of each connection. */
  readonly connectionWindow: number;
  /** Bytes. */
  readonly maxHeaderBytes: number;
  /** Milliseconds for the headers of a request. */
  readonly headerTimeout: number;
  /** Gets what is thrown while a connection is served. It ends that connection or HTTP stream, and nothing else. Default: `raise`. */
  readonly onUnexpected?: OnUnexpected;
}

export interface HttpServers {
  readonly http1: Http1Server;
  readonly http2: Http2Server;
}

/** Two HTTP servers that never listen: others hand them their connections. */
export function createHttpServers(
  handlers: Handlers,
  connections: Connections,
  options: HttpServerOptions,
): HttpServers {
  const { onUnexpected = raise } = options;
  const http1 = createHttp1Server(http1Options(options));
  const hosts = new HostForm();
  const refused = new WeakSet<Socket>();
  http1.on("request", (req: IncomingMessage, res: ServerResponse) => {
    endingSocket(onUnexpected, req.socket, () => {
      connections.begin(req, res);
      // Node has parsed what came behind a refused request, too: it may be what somebody else takes for its body.
      if (refused.has(req.socket)) return;
      if (hosts.hasOneHost(req)) {
        handlers.onRequest(req, res);
        return;
      }
      refused.add(req.socket);
      refuseHost(res);
    });
  });
  answerClientErrors(http1, connections, onUnexpected);
  // An HTTP server checks its timeouts only from this event on, which it never gets: it does not listen.
  http1.emit("listening");
  const http2 = createHttp2Server(http2Options(options));
  http2.on("session", (session) => {
    const fail = (error: unknown): void => {
      onUnexpected(error);
      session.destroy();
    };
    guarded(fail, () => {
      holdSession(session);
      session.setLocalWindowSize(options.connectionWindow);
      connections.addSession(session);
    })();
  });
  http2.on("sessionError", () => undefined);
  http2.on("stream", (stream, headers, _flags, rawHeaders) => {
    try {
      if (sizeOf(rawHeaders) > options.maxHeaderBytes) refuse(stream, 431);
      else if (!hosts.namesOneHost(rawHeaders)) refuse(stream, 400);
      else handlers.onStream(stream, headers);
    } catch (error) {
      onUnexpected(error);
      stream.on("error", () => undefined);
      stream.destroy();
    }
  });
  return { http1, http2 };
}

/** Node enforces the limit that it advertises only once the peer has acknowledged it. RFC 6585, section 5. */
function refuse(stream: ServerHttp2Stream, status: number): void {
  stream.on("error", () => undefined);
  if (!isOpen(stream)) return;
  stream.respond({ ":status": status }, { endStream: true });
  // Nobody reads its body: RFC 9113, section 8.1.
  stream.close(constants.NGHTTP2_NO_ERROR);
}

/** Closes the connection: what follows may be part of the same attempt (RFC 9112, section 11.2). */
function refuseHost(res: ServerResponse): void {
  res.on("error", () => undefined);
  res.writeHead(400, { connection: "close", "content-length": "0" }).end();
}

function sizeOf(rawHeaders: readonly string[]): number {
  let size = 0;
  for (const text of rawHeaders) size += text.length;
  return size;
}

function http1Options(options: HttpServerOptions) {
  return {
    maxHeaderSize: options.maxHeaderBytes,
    headersTimeout: options.headerTimeout,
    // The body is the runtime's: a stream may take a day.
    requestTimeout: 0,
    connectionsCheckingInterval: Math.max(50, Math.min(1000, options.headerTimeout / 4)),
    noDelay: true,
    keepAlive: true,
  };
}

function http2Options(options: HttpServerOptions) {
  const resets = connectionResets(options.maxResetRate);
  return {
    settings: {
      maxConcurrentStreams: options.maxStreamsPerConnection,
      initialWindowSize: options.streamWindow,
      maxHeaderListSize: options.maxHeaderBytes,
      enablePush: false,
    },
    maxHeaderListPairs: 200,
    // With one reset more the session ends.
    streamResetBurst: resets.burst,
    streamResetRate: resets.rate,
    // In MB. Node's 10 would let some slow readers keep the others of their connection out; each holds 1 MB at most.
    maxSessionMemory: Math.max(10, options.maxStreamsPerConnection),
  };
}

function answerClientErrors(server: Http1Server, connections: Connections, onUnexpected: OnUnexpected): void {
  const onClientError = (error: NodeJS.ErrnoException, socket: Socket): void => {
    if (!socket.writable || error.code === "ECONNRESET") {
      socket.destroy();
      return;
    }
    const status =
      error.code === "HPE_HEADER_OVERFLOW"
        ? "431 Request Header Fields Too Large"
        : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
          ? "408 Request Timeout"
          : "400 Bad Request";
    connections.note(socket, error.code === "ERR_HTTP_REQUEST_TIMEOUT" ? "header_timeout" : "protocol_error");
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  };
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => {
    endingSocket(onUnexpected, socket, () => {
      onClientError(error, socket);
    });
  });
}
