import { X509Certificate } from "node:crypto";
import { createServer as createHttp1Server } from "node:http";
import type { IncomingMessage, Server as Http1Server, ServerResponse } from "node:http";
import { constants, createServer as createHttp2Server } from "node:http2";
import type { Http2Server, IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { createServer as createTcpServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { createSecureContext, createServer as createTlsServer } from "node:tls";
import type { Server as TlsServer, TLSSocket, TlsOptions } from "node:tls";
import { guarded, raise } from "../async/guard.ts";
import type { OnUnexpected } from "../async/guard.ts";
import { DomainError } from "../errors.ts";
import { isOpen } from "../wire/node-http2-open.ts";
import { Admission, connectionResets } from "./admission.ts";
import { Connections } from "./connections.ts";
import type { ConnectionOptions } from "./connections.ts";
import { hasOneHost, namesOneHost } from "./host-header.ts";
import { sniff } from "./sniff.ts";
import type { TlsIdentity } from "./tls-files.ts";
import { TurnedAway } from "./turned-away.ts";

/** Gets each request. */
export interface Handlers {
  /** Of HTTP/1.1. */
  onRequest(req: IncomingMessage, res: ServerResponse): void;
  /** Of HTTP/2. */
  onStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void;
}

export interface ListenOptions extends ConnectionOptions {
  /** The account of room, if another listener has a part in it. */
  readonly admission?: Admission;
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** PEM. With it the port speaks TLS only, HTTP/2 or HTTP/1.1 as ALPN agrees. */
  readonly tls: TlsIdentity | undefined;
  /** Calls at once on one HTTP/2 connection. */
  readonly maxStreamsPerConnection: number;
  /** Bytes: HTTP/2's flow control window of each stream. */
  readonly streamWindow: number;
  /** Bytes: HTTP/2's flow control window of each connection. */
  readonly connectionWindow: number;
  /** Bytes. */
  readonly maxHeaderBytes: number;
  /** Milliseconds for the first bytes, the TLS handshake and the headers of a request. */
  readonly headerTimeout: number;
  /** Gets what is thrown while a connection is served. It ends that connection or HTTP stream, and nothing else. Default: `raise`. */
  readonly onUnexpected?: OnUnexpected;
}

export interface Listener {
  readonly url: string;
  readonly port: number;
  /**
   * From now on, handshakes get this certificate; open connections stay. Fails
   * with "config", and changes nothing, if it cannot be used.
   */
  setTls(tls: TlsIdentity): void;
  /** Takes no more connections, and tells the peers of the open ones to call no more. */
  drain(): void;
  /** Closes what is left. */
  close(): Promise<void>;
}

/**
 * Listens on one port for HTTP/1.1 and HTTP/2. Fails with a DomainError of kind
 * "config" when the address or the certificate cannot be used.
 */
export async function listen(handlers: Handlers, options: ListenOptions): Promise<Listener> {
  const connections = new Connections(options, options.admission ?? new Admission(options));
  const servers = createHttpServers(handlers, connections, options);
  const { http1, http2 } = servers;
  const secure = options.tls === undefined ? undefined : createTls(servers, connections, options, options.tls);
  const turnedAway = new TurnedAway();
  const onConnection = ofSocket(options, (socket: Socket) => {
    socket.on("error", () => undefined);
    const refusal = connections.add(socket, secure === undefined ? "cleartext" : "encrypted");
    if (refusal !== undefined) {
      // A handshake would cost more than the refusal is worth.
      if (secure === undefined) turnedAway.add(socket, refusal);
      else socket.destroy();
    } else if (!socket.destroyed) {
      if (secure === undefined) serveClear(socket, servers, connections, options);
      else secure.emit("connection", socket);
    }
  });
  const server = createTcpServer({ noDelay: true, keepAlive: true }, onConnection);
  server.once("close", () => {
    // Ends the check of timeouts; there is nothing else to close.
    http1.close();
    http2.close();
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      reject(new DomainError({ kind: "config", detail: describeListenError(cause, options) }, { cause }));
    });
    // As in a URL, an IPv6 address may stand in brackets.
    server.listen(options.port, options.host.replace(/^\[(.*)\]$/, "$1"), resolve);
  });
  // A connection that cannot be accepted, for want of a file descriptor, is an error of the server.
  server.on("error", options.onUnexpected ?? raise);
  const { address, port, family } = server.address() as AddressInfo;
  const host = options.host === "localhost" ? "localhost" : family === "IPv6" ? `[${address}]` : address;
  const closed = new Promise<void>((resolve) => server.once("close", resolve));
  return {
    url: `${options.tls === undefined ? "http" : "https"}://${host}:${port}`,
    port,
    setTls(tls) {
      checkTls(tls);
      secure?.setSecureContext({ ...nodeTls(tls), minVersion });
    },
    drain() {
      server.close();
      connections.drain();
    },
    close() {
      if (server.listening) server.close();
      connections.destroyAll();
      return closed;
    },
  };
}

interface HttpServers {
  readonly http1: Http1Server;
  readonly http2: Http2Server;
}

/** Two HTTP servers that never listen: others hand them their connections. */
function createHttpServers(handlers: Handlers, connections: Connections, options: ListenOptions): HttpServers {
  const { onUnexpected = raise } = options;
  const http1 = createHttp1Server(http1Options(options));
  const refused = new WeakSet<Socket>();
  http1.on("request", (req: IncomingMessage, res: ServerResponse) => {
    endingSocket(options, req.socket, () => {
      connections.begin(req, res);
      // Node has parsed what came behind a refused request, too: it may be what somebody else takes for its body.
      if (refused.has(req.socket)) return;
      if (hasOneHost(req)) {
        handlers.onRequest(req, res);
        return;
      }
      refused.add(req.socket);
      refuseHost(res);
    });
  });
  answerClientErrors(http1, connections, options);
  // An HTTP server checks its timeouts only from this event on, which it never gets: it does not listen.
  http1.emit("listening");
  const http2 = createHttp2Server(http2Options(options));
  http2.on("session", (session) => {
    const fail = (error: unknown): void => {
      onUnexpected(error);
      session.destroy();
    };
    guarded(fail, () => {
      session.setLocalWindowSize(options.connectionWindow);
      connections.addSession(session);
    })();
  });
  http2.on("sessionError", () => undefined);
  http2.on("stream", (stream, headers, _flags, rawHeaders) => {
    const fail = (error: unknown): void => {
      onUnexpected(error);
      stream.on("error", () => undefined);
      stream.destroy();
    };
    guarded(fail, () => {
      if (sizeOf(rawHeaders) > options.maxHeaderBytes) refuse(stream, 431);
      else if (!namesOneHost(rawHeaders)) refuse(stream, 400);
      else handlers.onStream(stream, headers);
    })();
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

/** Tells the two kinds of connections apart by their first bytes. */
function serveClear(
  socket: Socket,
  { http1, http2 }: HttpServers,
  connections: Connections,
  options: ListenOptions,
): void {
  connections.manage(socket);
  const timer = setTimeout(() => {
    connections.expel(socket, "header_timeout");
  }, options.headerTimeout).unref();
  const stop = sniff(socket, (protocol) => {
    clearTimeout(timer);
    endingSocket(options, socket, () => {
      (protocol === "http2" ? http2 : http1).emit("connection", socket);
    });
  });
  socket.once("close", () => {
    clearTimeout(timer);
    stop();
  });
}

const minVersion = "TLSv1.2";

/** A TLS server that does not listen either, and whose handshake tells the two kinds of connections apart. */
function createTls(
  { http1, http2 }: HttpServers,
  connections: Connections,
  options: ListenOptions,
  tls: TlsIdentity,
): TlsServer {
  checkTls(tls);
  const server = createTlsServer(
    {
      ...nodeTls(tls),
      ALPNProtocols: ["h2", "http/1.1"],
      minVersion,
      handshakeTimeout: options.headerTimeout,
    },
    ofSocket(options, (socket: TLSSocket) => {
      socket.on("error", () => undefined);
      connections.manage(socket);
      (socket.alpnProtocol === "h2" ? http2 : http1).emit("connection", socket);
    }),
  );
  server.on("tlsClientError", (_error, socket: Socket) => {
    connections.expel(socket, "handshake");
  });
  return server;
}

/** In Node's words. */
function nodeTls({ cert, key, clientCa }: TlsIdentity): TlsOptions {
  return {
    cert,
    key,
    ...(clientCa === undefined ? {} : { ca: clientCa, requestCert: true, rejectUnauthorized: true }),
  };
}

function checkTls({ cert, key, clientCa }: TlsIdentity): void {
  try {
    createSecureContext({ cert, key, minVersion });
  } catch (cause) {
    const detail = `the certificate or its key cannot be used (${messageOf(cause)}): --tls-cert and --tls-key must be PEM files that belong together`;
    throw new DomainError({ kind: "config", detail }, { cause });
  }
  try {
    // Node takes a file without a certificate for no CA, and then refuses every client.
    if (clientCa !== undefined) new X509Certificate(clientCa);
  } catch (cause) {
    const detail = `--tls-client-ca must be a PEM file with certificates (${messageOf(cause)})`;
    throw new DomainError({ kind: "config", detail }, { cause });
  }
}

function sizeOf(rawHeaders: readonly string[]): number {
  let size = 0;
  for (const text of rawHeaders) size += text.length;
  return size;
}

function http1Options(options: ListenOptions) {
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

function http2Options(options: ListenOptions) {
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

/** Runs what an event of a connection asks for. What it throws is reported, and ends the connection. */
function endingSocket({ onUnexpected = raise }: ListenOptions, socket: Socket, work: () => void): void {
  const fail = (error: unknown): void => {
    onUnexpected(error);
    socket.destroy();
  };
  guarded(fail, work)();
}

function ofSocket<S extends Socket>(options: ListenOptions, listener: (socket: S) => void): (socket: S) => void {
  return (socket) => {
    endingSocket(options, socket, () => {
      listener(socket);
    });
  };
}

function answerClientErrors(server: Http1Server, connections: Connections, options: ListenOptions): void {
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
    endingSocket(options, socket, () => {
      onClientError(error, socket);
    });
  });
}

function describeListenError(error: NodeJS.ErrnoException, { host, port }: ListenOptions): string {
  switch (error.code) {
    case "EADDRINUSE":
      return `port ${port} of ${host} is in use: stop the other program, or choose another --port (0 takes a free one)`;
    case "EACCES":
      return `port ${port} may not be used by this user: choose a --port above 1023`;
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return `--host ${host} is not an address of this machine`;
    default:
      return `cannot listen on ${host}, port ${port}: ${error.message}`;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
