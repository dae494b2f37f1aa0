import type { Socket } from "node:net";
import type { RefusalReason } from "./refusals.ts";

/** Refused connections that are told so, at most; others are only closed. */
const maxTold = 100;

/** Milliseconds for the first bytes of a refused peer, and for it to close. */
const patienceMs = 1000;

const reasons: Record<RefusalReason, string> = {
  full: "the server has --max-connections connections, all with calls: try again later",
  address: "there are --max-connections-per-address connections of this address: use one of them, or try again later",
  address_rate: "too much from this address was abandoned, see --max-reset-rate: try again later",
  draining: "the server is shutting down: connect again, and resume",
};

/**
 * Cleartext connections that were refused, and are told so. A request of HTTP/1.1 is answered with 503, in Connect's
 * words. HTTP/2 is only closed: GOAWAY must come after SETTINGS (RFC 9113, section 3.4), and a client that has seen
 * SETTINGS takes the connection for good and tries again without a pause, while one that was closed before backs off.
 */
export class TurnedAway {
  #told = 0;

  add(socket: Socket, reason: RefusalReason): void {
    if (this.#told >= maxTold) {
      socket.destroy();
      return;
    }
    this.#told++;
    const timer = setTimeout(() => socket.destroy(), patienceMs).unref();
    socket.once("close", () => {
      clearTimeout(timer);
      this.#told--;
    });
    socket.once("data", (first: Buffer) => {
      if (first.subarray(0, 3).toString("latin1") === "PRI") {
        socket.destroy();
        return;
      }
      socket.end(answer(reasons[reason]));
      // What is left unread at the close would reset the connection, and the reset can overtake the answer.
      socket.resume();
    });
  }
}

function answer(message: string): string {
  const body = JSON.stringify({ code: "unavailable", message });
  const head = [
    "HTTP/1.1 503 Service Unavailable",
    "Connection: close",
    "Retry-After: 5",
    "Content-Type: application/json",
    `Content-Length: ${Buffer.byteLength(body)}`,
  ];
  return `${head.join("\r\n")}\r\n\r\n${body}`;
}
