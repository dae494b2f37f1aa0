import { codeOfStatus } from "../wire/status-code.ts";
import type { Http3Stream, RequestHead } from "./engine.ts";
import type { Http3Connection } from "./http3-exchange.ts";
import { Session } from "./webtransport-session.ts";
import type { SessionOptions } from "./webtransport-session.ts";

export interface WebTransportOptions extends Omit<SessionOptions, "onUsed" | "onAbandoned"> {
  /** Where sessions are opened, such as `/webtransport`. */
  readonly path: string;
  /** Origins whose pages may open one, besides the server's own; `*` stands for any. */
  readonly origins: readonly string[];
  /** A session was asked for at another path, without its query. */
  readonly onUnknownPath?: (path: string, peer: string) => void;
  /** A page that was let in has sent or got a datagram. */
  readonly onUsed?: (connection: Http3Connection) => void;
  /** A page has given up a stream before it was a call. */
  readonly onAbandoned?: (connection: Http3Connection) => void;
}

/** The sessions of a server, and who may open one. */
export class WebTransportServer {
  readonly #options: WebTransportOptions;
  readonly #sessions = new Map<number, { readonly session: Session; readonly connection: Http3Connection }>();
  #draining = false;

  constructor(options: WebTransportOptions) {
    this.#options = options;
  }

  /** Answers an extended CONNECT. */
  request(stream: Http3Stream, head: RequestHead, connection: Http3Connection): void {
    const status = this.#judge(head, connection);
    if (status !== 200) {
      stream.listen({
        onLent: () => undefined,
        onEnd: () => undefined,
        onDrain: () => undefined,
        onFinished: () => {
          stream.release();
        },
        onBroken: () => undefined,
      });
      this.#options.onRefused?.(codeOfStatus(status), connection.peer);
      stream.sendHead(status, new Headers());
      stream.finish();
      return;
    }
    const options = {
      ...this.#options,
      onUsed: () => this.#options.onUsed?.(connection),
      onAbandoned: () => this.#options.onAbandoned?.(connection),
    };
    const session = new Session(stream, head, connection, options, () => {
      this.#sessions.delete(stream.id);
    });
    this.#sessions.set(stream.id, { session, connection });
  }

  stream(id: number, stream: Http3Stream): boolean {
    this.#sessions.get(id)?.session.stream(stream);
    return this.#sessions.has(id);
  }

  datagrams(id: number, datagrams: readonly Uint8Array[]): void {
    this.#sessions.get(id)?.session.datagrams(datagrams);
  }

  /** Asks the pages of one connection, or all, to open other sessions; each closes with its last call. */
  drain(connection?: Http3Connection): void {
    if (connection === undefined) this.#draining = true;
    for (const open of [...this.#sessions.values()]) {
      if (connection === undefined || open.connection === connection) open.session.drain();
    }
  }

  /** Ends all sessions. */
  close(code: number, reason: string): void {
    for (const { session } of [...this.#sessions.values()]) session.close(code, reason);
  }

  #judge({ target, header, scheme, authority }: RequestHead, connection: Http3Connection): number {
    const [path = ""] = target.split("?", 1);
    if (path !== this.#options.path) {
      this.#options.onUnknownPath?.(path, connection.peer);
      return 404;
    }
    const origin = header.get("origin");
    // A program that is no browser has none, and could say what it likes: the token is what lets it in.
    if (origin !== null && !this.#allowed(origin, `${scheme}://${authority}`)) return 403;
    if (this.#draining) return 503;
    // Chromium opens a connection for each; what SETTINGS say of it is in native/src/settings.rs.
    for (const open of this.#sessions.values()) if (open.connection === connection) return 429;
    return 200;
  }

  #allowed(origin: string, own: string): boolean {
    const { origins } = this.#options;
    return origin === own || origins.includes("*") || origins.includes(origin);
  }
}
