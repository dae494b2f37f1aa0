import type { ConnectError } from "@connectrpc/connect";
import type { ChunkReceiver } from "../wire/lent.ts";

/** Gets the response to a request as it arrives. Nothing is called after `onError`, or `onEnd` of one that is not split. */
export interface ResponseReceiver extends ChunkReceiver {
  onHead(status: number, header: Headers): void;
  /** The response is complete. */
  onEnd(trailer: Headers): void;
  /** The exchange has broken off. */
  onError(error: ConnectError): void;
  /** What was written has left: more may be written. */
  onDrain(): void;
  /** The server takes no more of a split request, and goes on answering. */
  onStopped?(): void;
}

export interface ExchangeRequest {
  readonly method: string;
  readonly url: string;
  readonly header: Headers;
  /** Whether each direction ends on its own, so that the request may go on after the response. Needs HTTP/2 or HTTP/3. */
  readonly split?: boolean;
}

/** One HTTP request on its way, and its response: all that a streaming call knows of HTTP. */
export interface ClientExchange {
  /**
   * Writes the pieces as one. False if the peer does not keep up: then `onDrain` follows.
   * Calls `sent` once the pieces are out and their memory may be written again; never, if that is not certain.
   */
  write(pieces: readonly Uint8Array[], sent: () => void): boolean;
  /** Ends the body of the request. */
  end(): void;
  /** Cuts the exchange: because the caller has `canceled` it, or because something is wrong. */
  reset(why: "canceled" | "error"): void;
  /** Takes no more of the response; a split request goes on. */
  stopReceiving(): void;
  /** Asks for no more chunks; some may still come. */
  pause(): void;
  resume(): void;
}

/** Sends a request's headers, once there is a connection. Fails with a ConnectError if there can be none. */
export type OpenExchange = (request: ExchangeRequest, receiver: ResponseReceiver) => Promise<ClientExchange>;
