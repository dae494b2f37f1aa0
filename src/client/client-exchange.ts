import type { ConnectError } from "@connectrpc/connect";

/** Gets the response to a request as it arrives. Nothing is called after `onEnd` or `onError`. */
export interface ResponseReceiver {
  onHead(status: number, header: Headers): void;
  onChunk(chunk: Uint8Array): void;
  /** The response is complete. */
  onEnd(trailer: Headers): void;
  /** The exchange has broken off. */
  onError(error: ConnectError): void;
  /** What was written has left: more may be written. */
  onDrain(): void;
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
  /** Asks for no more chunks; some may still come. */
  pause(): void;
  resume(): void;
}

/** Sends a request's headers, once there is a connection. Fails with a ConnectError if there can be none. */
export type OpenExchange = (
  request: { readonly method: string; readonly url: string; readonly header: Headers },
  receiver: ResponseReceiver,
) => Promise<ClientExchange>;
