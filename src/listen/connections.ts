import type { IncomingMessage, ServerResponse } from "node:http";
import { constants } from "node:http2";
import type { ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import { guarded, raise } from "../async/guard.ts";
import { isOpen } from "../wire/node-http2-open.ts";
import { followAge } from "./connection-age.ts";
import type { ConnectionAgeOptions } from "./connection-age.ts";
import { keepAlive } from "./keepalive.ts";
import type { KeepaliveOptions } from "./keepalive.ts";

export interface ConnectionOptions extends KeepaliveOptions, ConnectionAgeOptions {
  /** Connections at once; one more is closed. */
  readonly maxConnections: number;
  /** Ends the calls of a connection whose grace is over, so that their clients are told. */
  readonly onAged?: (owner: object) => void;
}

/** The open connections of a listener: their number, age and end. */
export class Connections {
  readonly #options: ConnectionOptions;
  readonly #sockets = new Set<Socket>();
  /** By the peer's address and port: a session's own `socket` is a proxy. */
  readonly #sessions = new Map<string, ServerHttp2Session>();
  /** Those that carry HTTP: the sockets themselves, or what TLS makes of them. */
  readonly #carriers = new Set<Socket>();
  /** HTTP/1.1 connections that take no more calls. */
  readonly #aged = new WeakSet<Socket>();
  /** Calls in flight of an HTTP/1.1 connection. */
  readonly #busy = new WeakMap<Socket, number>();
  #draining = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#sockets.size;
  }

  /** Counts a connection as it arrives. One more than the limit is closed. */
  add(socket: Socket): void {
    if (this.#draining || this.#sockets.size >= this.#options.maxConnections) {
      socket.destroy();
      return;
    }
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
  }

  /** Takes care of the age and the end of a connection that can carry HTTP: after the handshake, with TLS. */
  manage(socket: Socket): void {
    if (socket.destroyed) return;
    this.#carriers.add(socket);
    let session: ServerHttp2Session | undefined;
    const closed = followAge(this.#options, {
      retire: () => {
        session = this.#sessions.get(peerOf(socket));
        if (session === undefined) this.#retire(socket);
        else this.#goAway(session);
      },
      endCalls: () => {
        this.#options.onAged?.(session ?? socket);
      },
      close() {
        session?.destroy();
        socket.destroy();
      },
    });
    socket.once("close", () => {
      closed();
      this.#carriers.delete(socket);
    });
  }

  addSession(session: ServerHttp2Session): void {
    const peer = peerOf(session.socket);
    this.#sessions.set(peer, session);
    session.on("error", () => undefined);
    session.once("close", () => this.#sessions.delete(peer));
    keepAlive(session, this.#options);
    if (this.#draining) this.#goAway(session);
  }

  /** Counts a call of an HTTP/1.1 connection; its answer says so if the connection takes no more. */
  begin({ socket }: IncomingMessage, res: ServerResponse): void {
    this.#busy.set(socket, (this.#busy.get(socket) ?? 0) + 1);
    if (this.#draining || this.#aged.has(socket)) res.setHeader("connection", "close");
    res.once("close", () => {
      this.#busy.set(socket, (this.#busy.get(socket) ?? 1) - 1);
      if (this.#draining || this.#aged.has(socket)) socket.end();
    });
  }

  drain(): void {
    this.#draining = true;
    for (const session of this.#sessions.values()) this.#goAway(session);
    for (const socket of this.#carriers) {
      if (!this.#sessions.has(peerOf(socket)) && (this.#busy.get(socket) ?? 0) === 0) socket.end();
    }
  }

  destroyAll(): void {
    for (const session of this.#sessions.values()) session.destroy();
    for (const socket of this.#sockets) socket.destroy();
  }

  /** An HTTP/1.1 connection takes no more calls. */
  #retire(socket: Socket): void {
    this.#aged.add(socket);
    if ((this.#busy.get(socket) ?? 0) === 0) socket.end();
  }

  /** RFC 9113, section 6.8: the peer may finish its calls, and must make new ones elsewhere. */
  #goAway(session: ServerHttp2Session): void {
    const fail = (error: unknown): void => {
      (this.#options.onUnexpected ?? raise)(error);
      session.destroy();
    };
    guarded(fail, () => {
      if (!isOpen(session)) return;
      session.goaway(constants.NGHTTP2_NO_ERROR);
      // Closes once the last stream has ended.
      session.close();
    })();
  }
}

function peerOf(socket: Pick<Socket, "remoteAddress" | "remotePort">): string {
  return `${socket.remoteAddress ?? ""} ${socket.remotePort ?? ""}`;
}
