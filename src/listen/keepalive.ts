import type { ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import { guarded, raise } from "../async/guard.ts";
import type { OnUnexpected } from "../async/guard.ts";
import { PeerProgress } from "./peer-progress.ts";

export interface KeepaliveOptions {
  /** Milliseconds between two pings. */
  readonly keepaliveInterval: number;
  /** Milliseconds that an answer may take. */
  readonly keepaliveTimeout: number;
  /** Milliseconds that the headers of a request may take. */
  readonly headerTimeout: number;
  /** Gets what a ping fails with, which ends the connection. Default: `raise`. */
  readonly onUnexpected?: OnUnexpected;
}

export type DeadPeer = "keepalive_timeout" | "header_timeout";

/** How often a peer is looked at within each timeout. A stall of the event loop counts as one look, not as silence. */
const looks = 5;

/**
 * Watches the peer of an HTTP/2 session, and calls `onDead` once if it does not answer a ping, or leaves the headers of
 * a request unfinished.
 *
 * node:http2 has no event for headers that have begun. But a peer within them cannot answer a ping: nothing may come
 * between the frames of a field block (RFC 9113, section 4.3), and nothing within a frame. So a peer that has sent what
 * is not known to be complete is pinged, and closed if it neither answers nor gets on.
 */
export function keepAlive(
  session: ServerHttp2Session,
  socket: Socket,
  options: KeepaliveOptions,
  onDead: (reason: DeadPeer) => void,
): void {
  const progress = new PeerProgress(session, socket);
  const stops = [
    pingRegularly(progress, options, () => {
      die("keepalive_timeout");
    }),
    watchHeaders(progress, options, () => {
      die("header_timeout");
    }),
  ];
  const stop = (): void => {
    for (const each of stops) each();
  };
  const die = (reason: DeadPeer): void => {
    stop();
    onDead(reason);
  };
  session.once("close", stop);
}

function pingRegularly(progress: PeerProgress, options: KeepaliveOptions, onDead: () => void): () => void {
  const period = options.keepaliveTimeout / looks;
  let deadline: NodeJS.Timeout | undefined;
  const answered = (): void => {
    clearInterval(deadline);
    deadline = undefined;
  };
  const fail = failing(options, onDead);
  const ping = guarded(fail, () => {
    if (deadline !== undefined) return;
    const late = progress.ping(answered);
    if (late === undefined) {
      // The session is destroyed, and its socket is still there: over TLS Node may wait for a write that never ends.
      onDead();
      return;
    }
    // An answer waits behind what the peer is sending.
    const moved = progress.watch();
    let left = looks + Math.ceil(late / period);
    const look = guarded(fail, () => {
      if (moved()) left = Math.max(left, looks);
      else if (--left <= 0) onDead();
    });
    deadline = setInterval(look, period).unref();
  });
  const interval = setInterval(ping, options.keepaliveInterval).unref();
  return () => {
    clearInterval(interval);
    clearInterval(deadline);
  };
}

function watchHeaders(progress: PeerProgress, options: KeepaliveOptions, onDead: () => void): () => void {
  const period = options.headerTimeout / looks;
  const moved = progress.watch();
  /** Looks until the answer to a ping is due. */
  let left: number | undefined;
  const answered = (): void => {
    left = undefined;
  };
  const look = guarded(failing(options, onDead), () => {
    if (progress.complete || moved()) {
      left = undefined;
    } else if (left === undefined) {
      const late = progress.ping(answered);
      // The first look may see the headers begin, and the second one sends the ping.
      if (late !== undefined) left = looks - 2 + Math.ceil(late / period);
    } else if (--left <= 0) {
      onDead();
    }
  });
  const interval = setInterval(look, period).unref();
  return () => {
    clearInterval(interval);
  };
}

/** Reports what a look fails with, and ends the connection. */
function failing({ onUnexpected = raise }: KeepaliveOptions, onDead: () => void): OnUnexpected {
  return (error) => {
    onUnexpected(error);
    onDead();
  };
}
