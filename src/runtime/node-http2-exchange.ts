import { constants } from "node:http2";
import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { OnUnexpected } from "../async/guard.ts";
import { fromNodeHeaders, toNodeHeaders } from "../wire/node-headers.ts";
import { isOpen } from "../wire/node-http2-open.ts";
import { PausedStream } from "../wire/node-http2-pause.ts";
import { releaseStream } from "../wire/node-http2-release.ts";
import { resetStream } from "../wire/node-http2-reset.ts";
import { writePieces } from "../wire/node-platform.ts";
import type { BodyReceiver, HttpExchange } from "./exchange.ts";
import { pathOf, peerOf, urlOf } from "./node-address.ts";

/** RFC 9110, section 6.4.1. */
const bodilessStatuses = new Set([204, 205, 304]);

const exchangeOf = Symbol("exchange of the stream");

/** A stream with its exchange, from its beginning until its "close". */
interface ServedStream extends ServerHttp2Stream {
  [exchangeOf]?: NodeHttp2Exchange | undefined;
}

/**
 * A stream of node:http2, as the runtime takes it. Node's requests and responses
 * for HTTP/2 would be two more streams on top of it, for each call.
 */
export class NodeHttp2Exchange implements HttpExchange {
  readonly httpVersion = "2.0";
  readonly fullDuplex = true;
  readonly copiesWrites = false;
  readonly connection: object | undefined;
  readonly peer: string;
  readonly #stream: ServedStream;
  readonly #method: string;
  readonly #target: string;
  readonly #scheme: string;
  readonly #onUnexpected: OnUnexpected;
  readonly authority: string | undefined;
  /** Until somebody has asked for `header`: together they are some of the largest parts of a call that lasts. */
  #headers: IncomingHttpHeaders | undefined;
  #header: Headers | undefined;
  #receiver: BodyReceiver | undefined;
  #added: OutgoingHttpHeaders | undefined;
  #trailer: Headers | undefined;
  #received: boolean;
  #ended = false;
  /** Whether the request goes on after the response. */
  #split = false;
  /** All of the response has been handed to HTTP/2. */
  #finished = false;
  #resetting = false;
  #paused: PausedStream | undefined;
  #drained: (() => void) | undefined;
  #closeListeners: ((complete: boolean) => void)[] = [];

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, onUnexpected: OnUnexpected) {
    const { session } = stream;
    this.#stream = stream;
    this.#headers = headers;
    this.#onUnexpected = onUnexpected;
    this.#method = headers[":method"] ?? "";
    this.#target = headers[":path"] ?? "/";
    this.authority = headers[":authority"] ?? headers.host;
    this.connection = session;
    // Read now: a destroyed stream has no session any more, and a destroyed session no socket.
    this.peer = session === undefined || session.destroyed ? "?" : peerOf(session.socket);
    this.#scheme = session?.encrypted === true ? "https" : "http";
    this.#received = stream.endAfterHeaders;
    this.#stream[exchangeOf] = this;
    // An error of the stream shows as "close" too; without a listener it would end the process.
    stream.on("error", ignore);
    stream.on("aborted", NodeHttp2Exchange.#onAborted);
    stream.on("end", NodeHttp2Exchange.#onEnd);
    stream.on("close", NodeHttp2Exchange.#onClose);
    stream.on("wantTrailers", NodeHttp2Exchange.#onWantTrailers);
    // The reset may have come with the headers. Whoever serves the call hears of it as of any other end.
    setImmediate(NodeHttp2Exchange.#afterHeaders, this);
    // RFC 9110, section 10.1.1: a client that expects it waits for it.
    if (headers.expect?.toLowerCase() === "100-continue" && isOpen(stream)) {
      stream.additionalHeaders({ ":status": 100 });
    }
  }

  get header(): Headers {
    if (this.#header === undefined) {
      this.#header = fromNodeHeaders(this.#headers ?? {});
      this.#headers = undefined;
    }
    return this.#header;
  }

  get method(): string {
    return this.#method;
  }

  get path(): string {
    return pathOf(this.#target);
  }

  get url(): string {
    return urlOf(this.#target, this.#scheme, this.authority ?? "localhost");
  }

  get headSent(): boolean {
    return this.#stream.headersSent;
  }

  get closed(): boolean {
    return this.#ended || !isOpen(this.#stream);
  }

  receive(receiver: BodyReceiver): void {
    const stream = this.#stream;
    this.#receiver = receiver;
    stream.on("data", NodeHttp2Exchange.#onData);
    // node:http2 reads ahead: the end of a body without a byte may have been told before anybody listened.
    if (stream.readableEnded && !stream.closed) this.#endBody();
  }

  #endBody(): void {
    this.#received = true;
    const receiver = this.#receiver;
    // Nothing comes after it.
    this.#receiver = undefined;
    receiver?.onEnd();
  }

  /** What is still read of a stream that both sides have ended is not what is left of one that was reset. */
  #endSplit(): void {
    const stream = this.#stream;
    const reset = stream.aborted || (stream.closed && stream.rstCode !== constants.NGHTTP2_NO_ERROR);
    if (!this.#received && stream.readableEnded && !reset) this.#endBody();
  }

  pause(): void {
    this.#paused ??= new PausedStream(this.#stream);
  }

  resume(): void {
    const paused = this.#paused;
    this.#paused = undefined;
    if (paused === undefined) this.#stream.resume();
    else paused.resume();
  }

  addHeader(name: string, value: string): void {
    this.#added ??= {};
    this.#added[name] = value;
  }

  sendHead(status: number, header: Headers): void {
    const stream = this.#stream;
    if (stream.headersSent || this.closed) return;
    const endStream = this.method === "HEAD" || bodilessStatuses.has(status);
    try {
      stream.respond(
        { ":status": status, ...this.#added, ...toNodeHeaders(header) },
        { endStream, waitForTrailers: !endStream },
      );
    } catch (error) {
      this.#fail(error);
    }
  }

  write(pieces: readonly Uint8Array[], sent?: () => void): boolean {
    // node:http2 has ended the streams of answers that have no body.
    return this.closed || this.#stream.writableEnded || writePieces(this.#stream, pieces, sent);
  }

  onDrain(listener: () => void): void {
    if (this.#drained === undefined) this.#stream.on("drain", NodeHttp2Exchange.#onDrain);
    this.#drained = listener;
  }

  end(trailer?: Headers): void {
    const stream = this.#stream;
    this.#trailer = trailer;
    this.#ended = true;
    if (!this.#received && !stream.readableEnded) {
      // RFC 9113, section 8.1: a complete answer may be followed by RST_STREAM(NO_ERROR) to ask the client
      // to stop sending. Complete is after the trailers.
      stream.once(stream.writableEnded ? "finish" : "wantTrailers", NodeHttp2Exchange.#onFinished);
    }
    // What nobody reads would keep the stream open.
    if (stream.readableFlowing === null) stream.resume();
    stream.end();
  }

  #refuseRest(): void {
    if (!this.#received && !this.#stream.closed) this.#stream.close(constants.NGHTTP2_NO_ERROR);
  }

  reset(why: "canceled" | "error" = "canceled"): void {
    if (this.#stream.closed) return;
    this.#resetting = true;
    resetStream(this.#stream, why === "error" ? constants.NGHTTP2_INTERNAL_ERROR : constants.NGHTTP2_CANCEL);
  }

  split(): void {
    this.#split = true;
  }

  stopReceiving(): void {
    this.#split = false;
    // HTTP/2 has no word for it before the response is complete: until then what comes is dropped.
    this.#receiver = undefined;
    this.resume();
    if (this.#finished) this.#refuseRest();
  }

  onClose(listener: (complete: boolean) => void): void {
    // `push` makes room for 17, in each call.
    this.#closeListeners = this.#closeListeners.concat(listener);
  }

  /**
   * Sees that a stream that its peer has reset is over. With the code NO_ERROR Node
   * waits until the response has been written, which then never comes.
   */
  #closeWithPeer(): void {
    const stream = this.#stream;
    // A stream that is destroyed while it is being reset never sends that.
    if (stream.closed && !stream.destroyed && !this.#resetting) stream.destroy();
  }

  #fail(error: unknown): void {
    this.#onUnexpected(error);
    this.reset("error");
  }

  /**
   * Makes a listener for events of all streams, which Node calls with the stream as `this`; listeners of each exchange's
   * own would be ten more functions for each open call. The listener never throws: see `guarded`.
   */
  static #listener(handle: (exchange: NodeHttp2Exchange) => void) {
    return function (this: ServedStream): void {
      const exchange = this[exchangeOf];
      if (exchange === undefined) return;
      try {
        handle(exchange);
      } catch (error) {
        exchange.#fail(error);
      }
    };
  }

  /** Not made by `#listener`: it runs for each DATA frame, and V8 does not inline the call that those listeners share. */
  static #onData(this: ServedStream, chunk: Uint8Array): void {
    const exchange = this[exchangeOf];
    if (exchange === undefined) return;
    try {
      exchange.#receiver?.onChunk(chunk);
    } catch (error) {
      exchange.#fail(error);
    }
  }

  static readonly #onDrain = NodeHttp2Exchange.#listener((exchange) => {
    exchange.#drained?.();
  });

  static readonly #onAborted = NodeHttp2Exchange.#listener((exchange) => {
    exchange.#closeWithPeer();
  });

  static readonly #onEnd = NodeHttp2Exchange.#listener((exchange) => {
    if (exchange.#split) {
      // Some clients end a stream that they reset: then both come together.
      setImmediate(NodeHttp2Exchange.#afterEnd, exchange);
      exchange.#closeWithPeer();
      return;
    }
    // That of a stream that was reset is not the body's. While the response was being ended there is no "aborted".
    if (exchange.#stream.closed) exchange.#closeWithPeer();
    else exchange.#endBody();
  });

  static readonly #onWantTrailers = NodeHttp2Exchange.#listener((exchange) => {
    const stream = exchange.#stream;
    if (isOpen(stream)) stream.sendTrailers(exchange.#trailer === undefined ? {} : toNodeHeaders(exchange.#trailer));
  });

  static readonly #onFinished = NodeHttp2Exchange.#listener((exchange) => {
    setImmediate(NodeHttp2Exchange.#afterFinished, exchange);
  });

  static readonly #onClose = NodeHttp2Exchange.#listener((exchange) => {
    const stream = exchange.#stream;
    if (exchange.#split) exchange.#endSplit();
    const complete = stream.writableFinished && (exchange.#received || !exchange.#split);
    for (const listener of exchange.#closeListeners) {
      try {
        listener(complete);
      } catch (error) {
        exchange.#fail(error);
      }
    }
    stream[exchangeOf] = undefined;
    releaseStream(stream);
  });

  static #afterHeaders(exchange: NodeHttp2Exchange): void {
    exchange.#closeWithPeer();
  }

  static #afterFinished(exchange: NodeHttp2Exchange): void {
    exchange.#finished = true;
    if (!exchange.#split) exchange.#refuseRest();
  }

  static #afterEnd(exchange: NodeHttp2Exchange): void {
    try {
      exchange.#endSplit();
    } catch (error) {
      exchange.#fail(error);
    }
  }
}

function ignore(): void {
  // See where it is used.
}
