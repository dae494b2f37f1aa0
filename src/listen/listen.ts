import { createServer as createTcpServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { raise } from "../async/guard.ts";
import { settledWithin } from "../async/signals.ts";
import type { OnUnexpected } from "../async/guard.ts";
import { DomainError } from "../errors.ts";
import { Admission } from "./admission.ts";
import { Connections } from "./connections.ts";
import type { ConnectionOptions } from "./connections.ts";
import { endingSocket, ofSocket } from "./guarded-socket.ts";
import { createHttpServers } from "./http-servers.ts";
import type { Handlers, HttpServerOptions, HttpServers } from "./http-servers.ts";
import { sniff } from "./sniff.ts";
import type { TlsIdentity } from "./tls-files.ts";
import { createTlsServer } from "./tls-server.ts";
import { TurnedAway } from "./turned-away.ts";

export interface ListenOptions extends ConnectionOptions, HttpServerOptions {
  /** The account of room, if another listener has a part in it. */
  readonly admission?: Admission;
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** PEM. With it the port speaks TLS only, HTTP/2 or HTTP/1.1 as ALPN agrees. */
  readonly tls: TlsIdentity | undefined;
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
  /**
   * Closes. After a drain connections close by themselves once all that was said on them has left: they have `graceMs`
   * for it, default 0, and are destroyed then.
   */
  close(graceMs?: number): Promise<void>;
}

/**
 * Connections that may wait to be accepted; the system may allow fewer (net.core.somaxconn). When the queue is full
 * the system drops newcomers, which then wait seconds before they try again. Node's 511 are filled by a burst.
 */
const backlog = 4096;

/**
 * Listens on one port for HTTP/1.1 and HTTP/2. Fails with a DomainError of kind
 * "config" when the address or the certificate cannot be used.
 */
export async function listen(handlers: Handlers, options: ListenOptions): Promise<Listener> {
  const { onUnexpected = raise } = options;
  const connections = new Connections(options, options.admission ?? new Admission(options));
  const servers = createHttpServers(handlers, connections, options);
  const { http1, http2 } = servers;
  const secure = options.tls === undefined ? undefined : createTlsServer(servers, connections, options, options.tls);
  const turnedAway = new TurnedAway();
  const onConnection = ofSocket(onUnexpected, (socket: Socket) => {
    socket.on("error", () => undefined);
    const refusal = connections.add(socket, secure === undefined ? "cleartext" : "encrypted");
    if (refusal !== undefined) {
      // A handshake would cost more than the refusal is worth.
      if (secure === undefined) turnedAway.add(socket, refusal);
      else socket.destroy();
    } else if (!socket.destroyed) {
      if (secure === undefined) serveClear(socket, servers, connections, options);
      else secure.serve(socket);
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
    server.listen({ port: options.port, host: options.host.replace(/^\[(.*)\]$/, "$1"), backlog }, resolve);
  });
  // A connection that cannot be accepted, for want of a file descriptor, is an error of the server.
  server.on("error", onUnexpected);
  const { address, port, family } = server.address() as AddressInfo;
  const host = options.host === "localhost" ? "localhost" : family === "IPv6" ? `[${address}]` : address;
  const closed = new Promise<void>((resolve) => server.once("close", resolve));
  return {
    url: `${options.tls === undefined ? "http" : "https"}://${host}:${port}`,
    port,
    setTls(tls) {
      secure?.setTls(tls);
    },
    drain() {
      server.close();
      connections.drain();
    },
    async close(graceMs = 0) {
      if (server.listening) server.close();
      if (graceMs > 0) await settledWithin(graceMs, connections.ended());
      connections.destroyAll();
      await closed;
    },
  };
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
    endingSocket(options.onUnexpected ?? raise, socket, () => {
      (protocol === "http2" ? http2 : http1).emit("connection", socket);
    });
  });
  socket.once("close", () => {
    clearTimeout(timer);
    stop();
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
