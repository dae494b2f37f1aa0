import type { ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";

/** Bytes of a PING frame (RFC 9113, sections 4.1 and 6.7). */
const pingBytes = 17;

/** Bytes a second that a link carries at least, and bytes that wait in front of a ping on it at most. */
const slowestLink = 64 * 1024;
const longestQueue = 4 * 1024 * 1024;

/** What is known of how far the peer of an HTTP/2 session is, without seeing its frames. */
export class PeerProgress {
  readonly #session: ServerHttp2Session;
  readonly #socket: Socket;
  /** Bytes that had been read when the peer was known to be between two frames. */
  #completeAt = -1;
  /** Bytes that had been written before the last ping that was answered. */
  #answeredAt = 0;

  constructor(session: ServerHttp2Session, socket: Socket) {
    this.#session = session;
    this.#socket = socket;
  }

  /** Whether the peer is known to be between two frames. */
  get complete(): boolean {
    return this.#socket.bytesRead === this.#completeAt;
  }

  /**
   * Sends a PING. Returns by how many milliseconds its answer may be late: it may wait in the network behind what was
   * sent since the last ping that was answered, for a peer on a slow link. Undefined if the session is destroyed.
   */
  ping(answered: () => void): number | undefined {
    const { bytesRead, bytesWritten } = this.#socket;
    if (this.#session.destroyed) return undefined;
    // Not sent if too many were not answered: then the answers to those are due.
    this.#session.ping((error) => {
      if (error !== null) return;
      this.#answeredAt = bytesWritten;
      // With more than the answer, the rest may be the beginning of something else.
      if (this.#socket.bytesRead - bytesRead === pingBytes) this.#completeAt = this.#socket.bytesRead;
      answered();
    });
    return (Math.min(bytesWritten - this.#answeredAt, longestQueue) / slowestLink) * 1000;
  }

  /**
   * Returns a question: whether, since it was last asked, the peer has begun a request or sent a part of a body, which
   * it cannot within the headers of another request.
   */
  watch(): () => boolean {
    let before = this.#session.state;
    return () => {
      // Empty once the session is destroyed.
      const now = this.#session.state;
      const moved =
        now.lastProcStreamID !== before.lastProcStreamID ||
        now.effectiveRecvDataLength !== before.effectiveRecvDataLength ||
        now.localWindowSize !== before.localWindowSize;
      before = now;
      return moved;
    };
  }
}
