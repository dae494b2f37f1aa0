import type { ChunkReceiver } from "../wire/lent.ts";

/** Gets the body of a request as it arrives. */
export interface BodyReceiver extends ChunkReceiver {
  /** The body is complete; not called if the exchange breaks off. */
  onEnd(): void;
}

/**
 * One HTTP request and its response: all that the runtime knows of HTTP. Each
 * version of HTTP has an adapter that makes one.
 *
 * No method throws. Once the peer has closed the exchange they have no effect;
 * what an adapter cannot send for another reason, such as a header that HTTP
 * does not allow, resets the exchange and is reported to `OnUnexpected`.
 */
export interface HttpExchange {
  readonly method: string;
  /** Absolute. */
  readonly url: string;
  readonly path: string;
  /**
   * The host that the request is for, perhaps with a port, as the peer wrote it: `:authority`, the host of a target in
   * absolute form, or else `Host`. Undefined if the request names none.
   */
  readonly authority: string | undefined;
  /** "1.0", "1.1", "2.0", "3.0" or "webtransport". */
  readonly httpVersion: string;
  /** Without HTTP/2's pseudo-headers. */
  readonly header: Headers;
  /** Address and port of the peer. */
  readonly peer: string;
  /** The connection that carries it, by identity. */
  readonly connection: object | undefined;
  /** Whether the response's status and headers have been sent. */
  readonly headSent: boolean;
  /** Whether the response is complete, or the exchange broken off. */
  readonly closed: boolean;
  /** Whether a direction can go on, and end, without the other: not in HTTP/1.1. */
  readonly fullDuplex: boolean;
  /** Whether `write` copies: then `sent` does not say that the peer has taken what was written, but `onDrain` does. */
  readonly copiesWrites: boolean;

  /** Begins to read the body. Until then the peer's flow control window stays as it is. */
  receive(receiver: BodyReceiver): void;
  /** Asks for no more chunks; some may still come. */
  pause(): void;
  resume(): void;

  /** Adds a header to those that `sendHead` will get. */
  addHeader(name: string, value: string): void;
  /** Sends the status and the headers at once. Nothing, if that has been done. */
  sendHead(status: number, header: Headers): void;
  /**
   * Writes the pieces as one. False if the peer does not keep up: then `onDrain` says when it does again.
   * Calls `sent` once the pieces are out and their memory may be written again; never, if that is not certain.
   */
  write(pieces: readonly Uint8Array[], sent?: () => void): boolean;
  /** Ends the response, with its trailers; also while the request is still arriving. */
  end(trailer?: Headers): void;
  /** Cuts an exchange that cannot end in order: because it is not wanted any more, or because something is wrong. */
  reset(why?: "canceled" | "error"): void;

  /**
   * Lets each direction end on its own: after `end` the request goes on arriving, and the exchange is over once both
   * are. Calls `onStopped` if the peer takes no more of the response, and goes on sending.
   */
  split(onStopped: () => void): void;
  /** Takes no more of the request; the response goes on. */
  stopReceiving(): void;

  /** Replaces the listener for the moment from which `write` may be called again. */
  onDrain(listener: () => void): void;
  /**
   * Calls the listener once the exchange is over; `complete` if the whole response has been sent, and after `split`
   * the whole request has arrived, or as much as was wanted.
   */
  onClose(listener: (complete: boolean) => void): void;
}
