import type { Http2Session, Http2Stream } from "node:http2";

/**
 * Whether node:http2 still takes calls on this stream or session. On one that
 * its peer, an error or this side has closed, most of them throw
 * ERR_HTTP2_INVALID_STREAM or ERR_HTTP2_INVALID_SESSION. An event does not
 * prove that it is open: Node emits events after it has parsed the whole
 * segment, in which a reset may follow.
 */
export function isOpen(it: Pick<Http2Stream | Http2Session, "closed" | "destroyed">): boolean {
  return !it.closed && !it.destroyed;
}
