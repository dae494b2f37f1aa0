import type { Socket } from "node:net";

/** What an HTTP/2 client sends first (RFC 9113, section 3.4). */
const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/**
 * Tells HTTP/1.1 from HTTP/2 with prior knowledge on a cleartext connection, by
 * its first bytes, and puts these back. Whatever is not HTTP/2 counts as
 * HTTP/1.1, whose parser answers garbage with 400. Returns a cleanup that stops
 * the watch.
 *
 * Not @httptoolkit/httpolyglot: it sends HTTP/2 through Node's slow path for
 * streams that are not sockets, and waits for the first bytes without a limit.
 */
export function sniff(socket: Socket, decided: (protocol: "http1" | "http2") => void): () => void {
  let seen = Buffer.alloc(0);
  const onReadable = (): void => {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) return;
    // Kept aside until it is enough: `unshift` would announce it at once, again and again.
    seen = Buffer.concat([seen, chunk]);
    const length = Math.min(seen.length, preface.length);
    const matches = seen.subarray(0, length).equals(preface.subarray(0, length));
    if (matches && length < preface.length) return;
    stop();
    socket.unshift(seen);
    decided(matches ? "http2" : "http1");
  };
  const stop = (): void => {
    socket.off("readable", onReadable);
  };
  socket.on("readable", onReadable);
  return stop;
}
