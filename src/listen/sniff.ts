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
  const onReadable = (): void => {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) return;
    const length = Math.min(chunk.length, preface.length);
    const matches = chunk.subarray(0, length).equals(preface.subarray(0, length));
    socket.unshift(chunk);
    if (matches && length < preface.length) {
      // `unshift` does not announce what it put back: wait for more than that.
      return;
    }
    socket.off("readable", onReadable);
    decided(matches ? "http2" : "http1");
  };
  socket.on("readable", onReadable);
  return () => {
    socket.off("readable", onReadable);
  };
}
