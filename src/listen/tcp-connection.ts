import { constants } from "node:http2";
import type { ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import { guarded } from "../async/guard.ts";
import type { OnUnexpected } from "../async/guard.ts";
import { isOpen } from "../wire/node-http2-open.ts";
import type { Occupant } from "./places.ts";

/** One TCP connection: the socket, what TLS makes of it, and the HTTP that it turns out to carry. */
export class TcpConnection implements Occupant {
  readonly #socket: Socket;
  readonly #onUnexpected: OnUnexpected;
  /** Carries HTTP: the socket itself, or what TLS makes of it. */
  #carrier: Socket | undefined;
  #session: ServerHttp2Session | undefined;
  /** It takes no more calls. */
  #retired = false;
  /** Requests of HTTP/1.1 in flight. */
  #busy = 0;

  constructor(socket: Socket, onUnexpected: OnUnexpected) {
    this.#socket = socket;
    this.#onUnexpected = onUnexpected;
  }

  get carrier(): Socket | undefined {
    return this.#carrier;
  }

  /** What its calls know it by. */
  get owner(): object {
    return this.#session ?? this.#carrier ?? this.#socket;
  }

  get retired(): boolean {
    return this.#retired;
  }

  /** It can carry HTTP: the handshake is over, if there is one. */
  carry(carrier: Socket): void {
    this.#carrier = carrier;
  }

  /** It carries HTTP/2. */
  serve(session: ServerHttp2Session): void {
    this.#session = session;
    if (this.#retired) this.#goAway(session);
  }

  begin(): void {
    this.#busy++;
  }

  end(): void {
    this.#busy--;
    if (this.#retired && this.#busy === 0) this.#carrier?.end();
  }

  /** Takes no more calls, and closes with the last one. */
  retire(): void {
    this.#retired = true;
    if (this.#session !== undefined) this.#goAway(this.#session);
    else if (this.#busy === 0) this.#carrier?.end();
  }

  dismiss(): void {
    // Before it has sent a byte of HTTP there is nothing that could be said.
    if (this.#carrier === undefined) this.#socket.destroy();
    else this.retire();
  }

  close(abusive: boolean): void {
    const session = this.#session;
    if (session !== undefined && !session.destroyed) {
      guarded(this.#onUnexpected, () => {
        if (abusive) session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      })();
      session.destroy();
    }
    // Not left to the session: Node may wait for a write over TLS that never ends, once the peer has gone.
    this.#carrier?.destroy();
    this.#socket.destroy();
  }

  /** RFC 9113, section 6.8: the peer may finish its calls, and must make new ones elsewhere. */
  #goAway(session: ServerHttp2Session): void {
    const fail = (error: unknown): void => {
      this.#onUnexpected(error);
      this.close(false);
    };
    guarded(fail, () => {
      if (!isOpen(session)) return;
      session.goaway(constants.NGHTTP2_NO_ERROR);
      // Closes once the last stream has ended.
      session.close();
    })();
  }
}
