import type { ServerHttp2Session } from "node:http2";
import { guarded, raise } from "../async/guard.ts";
import type { OnUnexpected } from "../async/guard.ts";

export interface KeepaliveOptions {
  /** Milliseconds between two pings. */
  readonly keepaliveInterval: number;
  /** Milliseconds that an answer may take. */
  readonly keepaliveTimeout: number;
  /** Gets what a ping fails with. Default: `raise`. */
  readonly onUnexpected?: OnUnexpected;
}

/** Pings the peer of an HTTP/2 session, and destroys the session when it is dead. */
export function keepAlive(session: ServerHttp2Session, options: KeepaliveOptions): void {
  let deadline: NodeJS.Timeout | undefined;
  const answered = (error?: Error | null): void => {
    clearTimeout(deadline);
    deadline = undefined;
    // A session that can send no ping is dead, though Node does not always say so: after a GOAWAY of the peer, an error
    // of the peer's neither destroys the session nor lets it read that the peer has closed the connection.
    if (error != null) session.destroy();
  };
  const fail = (error: unknown): void => {
    (options.onUnexpected ?? raise)(error);
    session.destroy();
  };
  const ping = guarded(fail, () => {
    // A session that is closed is still pinged: its last streams may take long.
    if (session.destroyed || deadline !== undefined) return;
    deadline = setTimeout(() => {
      session.destroy();
    }, options.keepaliveTimeout).unref();
    if (!session.ping(answered)) answered();
  });
  const interval = setInterval(ping, options.keepaliveInterval).unref();
  session.once("close", () => {
    clearInterval(interval);
    clearTimeout(deadline);
  });
}
