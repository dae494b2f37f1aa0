import type { IncomingMessage, ServerResponse } from "node:http";
import type { ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import { raise } from "../async/guard.ts";
import type { Admission, AdmissionOptions } from "./admission.ts";
import { followAge } from "./connection-age.ts";
import type { ConnectionAgeOptions } from "./connection-age.ts";
import { keepAlive } from "./keepalive.ts";
import type { KeepaliveOptions } from "./keepalive.ts";
import type { Place } from "./places.ts";
import type { RefusalReason } from "./refusals.ts";
import { TcpConnection } from "./tcp-connection.ts";

export interface ConnectionOptions extends KeepaliveOptions, ConnectionAgeOptions, AdmissionOptions {
  /** Ends the calls of a connection whose grace is over, so that their clients are told. */
  readonly onAged?: (owner: object) => void;
}

interface Open {
  readonly connection: TcpConnection;
  readonly place: Place;
}

/** The open connections of a listener: their places, their age and their end. */
export class Connections {
  readonly #options: ConnectionOptions;
  readonly #admission: Admission;
  /** By the peer's address and port: a session's own `socket` is a proxy, and TLS has a socket of its own. */
  readonly #open = new Map<string, Open>();
  readonly #byCarrier = new WeakMap<Socket, TcpConnection>();
  #draining = false;
  #waitingForEnd: (() => void)[] = [];

  constructor(options: ConnectionOptions, admission: Admission) {
    this.#options = options;
    this.#admission = admission;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Gives a connection that has arrived a place, or says why there is none. */
  add(socket: Socket, transport: "cleartext" | "encrypted"): RefusalReason | undefined {
    const { remoteAddress } = socket;
    if (remoteAddress === undefined) {
      // It has gone already.
      socket.destroy();
      return undefined;
    }
    const connection = new TcpConnection(socket, this.#options.onUnexpected ?? raise);
    const place = this.#admission.enter(remoteAddress, transport, connection);
    if (typeof place === "string") return place;
    const peer = peerOf(socket);
    this.#open.set(peer, { connection, place });
    socket.once("close", () => {
      this.#open.delete(peer);
      this.#admission.leave(place);
      if (this.#open.size > 0) return;
      for (const resolve of this.#waitingForEnd.splice(0)) resolve();
    });
    return undefined;
  }

  /** Takes care of the age and the end of a connection that can carry HTTP: after the handshake, with TLS. */
  manage(carrier: Socket): void {
    const open = this.#open.get(peerOf(carrier));
    if (open === undefined || carrier.destroyed) return;
    const { connection, place } = open;
    connection.carry(carrier);
    this.#byCarrier.set(carrier, connection);
    this.#admission.carry(place, carrier);
    const closed = followAge(this.#options, {
      retire: () => {
        connection.retire();
      },
      endCalls: () => {
        this.#options.onAged?.(connection.owner);
      },
      close: () => {
        connection.close(false);
      },
    });
    carrier.once("close", closed);
  }

  addSession(session: ServerHttp2Session): void {
    session.on("error", () => undefined);
    const open = this.#open.get(peerOf(session.socket));
    const carrier = open?.connection.carrier;
    if (open === undefined || carrier === undefined) {
      session.destroy();
      return;
    }
    const { connection, place } = open;
    let streams = 0;
    session.on("stream", () => streams++);
    session.once("error", (error: NodeJS.ErrnoException) => {
      // So says nghttp2 of frames that are wrong, or too many, such as resets.
      if (error.code === "ERR_HTTP2_ERROR") this.#admission.blame(place, streams);
    });
    this.#admission.carry(place, session);
    keepAlive(session, carrier, this.#options, (reason) => {
      this.#admission.expel(place, reason);
      connection.close(false);
    });
    connection.serve(session);
    if (this.#draining) connection.retire();
  }

  /** Counts a request of an HTTP/1.1 connection; its answer says so if the connection takes no more. */
  begin({ socket }: IncomingMessage, res: ServerResponse): void {
    const connection = this.#byCarrier.get(socket);
    if (connection === undefined) return;
    connection.begin();
    if (connection.retired) res.setHeader("connection", "close");
    res.once("close", () => {
      connection.end();
    });
  }

  /** Ends a connection for a reason that is counted. */
  expel(socket: Socket, reason: "header_timeout" | "handshake"): void {
    const open = this.#open.get(peerOf(socket));
    if (open === undefined) socket.destroy();
    else this.#admission.expel(open.place, reason);
  }

  /** Counts the end of a connection that closes by itself, after what it has still to say. */
  note(socket: Socket, reason: "header_timeout" | "protocol_error"): void {
    const open = this.#open.get(peerOf(socket));
    if (open !== undefined) this.#admission.refusals.close(reason, open.place.account.address);
  }

  drain(): void {
    this.#draining = true;
    for (const { connection } of this.#open.values()) connection.retire();
  }

  /** Resolves when no connection is open. */
  ended(): Promise<void> {
    if (this.#open.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waitingForEnd.push(resolve));
  }

  destroyAll(): void {
    for (const { connection } of this.#open.values()) connection.close(false);
  }
}

function peerOf(socket: Pick<Socket, "remoteAddress" | "remotePort">): string {
  return `${socket.remoteAddress ?? ""} ${socket.remotePort ?? ""}`;
}
