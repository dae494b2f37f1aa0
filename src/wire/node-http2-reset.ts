import type { Http2Stream } from "node:http2";

/**
 * Resets a stream with one of the codes of RFC 9113, section 7.
 *
 * Node's `close` alone ends a stream that is still being written first: an empty DATA frame with END_STREAM leaves before
 * RST_STREAM, and the peer may take half a body for a whole one.
 */
export function resetStream(stream: Http2Stream, code: number): void {
  // What writes that frame, as the last step of ending a Writable.
  stream._final = (done) => {
    done();
  };
  stream.close(code);
}
