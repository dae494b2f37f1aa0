import type { ServerHttp2Session } from "node:http2";

export interface KeepaliveOptions {
  /** Milliseconds between two pings. */
  readonly keepaliveInterval: number;
  /** Milliseconds that an answer may take. */
  readonly keepaliveTimeout: number;
}

/** Pings the peer of an HTTP/2 session, and destroys the session when it is dead. */
export function keepAlive(session: ServerHttp2Session, options: KeepaliveOptions): void {
  let deadline: NodeJS.Timeout | undefined;
  const interval = setInterval(() => {
    if (session.destroyed || deadline !== undefined) return;
    deadline = setTimeout(() => {
      session.destroy();
    }, options.keepaliveTimeout).unref();
    const sent = session.ping(() => {
      clearTimeout(deadline);
      deadline = undefined;
    });
    if (!sent) {
      clearTimeout(deadline);
      deadline = undefined;
    }
  }, options.keepaliveInterval).unref();
  session.once("close", () => {
    clearInterval(interval);
    clearTimeout(deadline);
  });
}
