import { createContextKey } from "@connectrpc/connect";
import type { ContextKey } from "@connectrpc/connect";
import type { MemoryAccount } from "../wire/memory-account.ts";

/** What the runtime knows of one RPC in flight, for interceptors and services. */
export interface Call {
  /** `greet.v1.GreetService/Greet`. */
  readonly procedure: string;
  /** "unary", "client", "server" or "bidi". */
  readonly shape: "unary" | "client" | "server" | "bidi";
  /** "raw" is a stream that a handler has taken over: `procedure` is its path. */
  readonly protocol: "connect" | "grpc" | "grpc-web" | "raw";
  readonly httpVersion: string;
  /** Address and port of the peer. */
  readonly peer: string;
  /**
   * Aborted when the call is over for any reason: the peer went away, a
   * deadline passed, the server drains. `HandlerContext.signal` follows it.
   */
  readonly signal: AbortSignal;
  /**
   * Calls the listener when `signal` would be aborted, before its listeners; at once if it is. Returns the cleanup.
   * Costs less than the signal, which is made when somebody asks for it: for calls that last, and are many.
   */
  onAbort(listener: (reason: Error) => void): () => void;
  /**
   * Ends the call: waits in the handler see `reason` as the reason of their
   * signal, and the peer gets it as the call's error.
   */
  end(reason: Error): void;
  /**
   * Keeps the headers of a streamed response until its first message or its end,
   * for a handler that sets some only after a wait. To be called before that
   * wait: without it the headers leave as soon as the handler waits.
   */
  holdHeaders(): void;
  /**
   * Lifts `--stream-idle-timeout` from the call, for a handler that has nothing to say for long, and a peer that waits.
   * Peers that are gone are noticed all the same: `--keepalive-interval`.
   */
  mayIdle(): void;
  /**
   * What the call holds of `--max-request-memory`. The runtime counts the request message that a handler has asked for
   * last, and what waits to be read or sent; a handler counts here what it keeps besides.
   */
  readonly memory: MemoryAccount;
  /** Runs the listener when the call is over, whatever the outcome. Returns the cleanup. */
  onClose(listener: () => void): () => void;
}

/** Set by the runtime on each RPC that came over a socket. */
export const callKey: ContextKey<Call | undefined> = createContextKey<Call | undefined>(undefined, {
  description: "the RPC in flight",
});
