import { constants } from "node:http2";
import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { fromNodeHeaders, toNodeHeaders } from "../wire/node-headers.ts";
import { writePieces } from "../wire/node-platform.ts";
import type { BodyReceiver, HttpExchange } from "./exchange.ts";
import { pathOf, peerOf, urlOf } from "./node-address.ts";

/**
 * A stream of node:http2, as the runtime takes it. Node's requests and responses
 * for HTTP/2 would be two more streams on top of it, for each call.
 */
export class NodeHttp2Exchange implements HttpExchange {
  readonly httpVersion = "2.0";
  readonly header: Headers;
  readonly connection: object | undefined;
  readonly peer: string;
  readonly #stream: ServerHttp2Stream;
  readonly #headers: IncomingHttpHeaders;
  readonly #scheme: string;
  #added: OutgoingHttpHeaders | undefined;
  #trailer: Headers | undefined;
  #received: boolean;
  #drained: (() => void) | undefined;

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders) {
    const { session } = stream;
    this.#stream = stream;
    this.#headers = headers;
    this.header = fromNodeHeaders(headers);
    this.connection = session;
    // Asked for now: a stream that is over has no session any more.
    this.peer = session === undefined ? "?" : peerOf(session.socket);
    this.#scheme = session?.encrypted === true ? "https" : "http";
    this.#received = stream.endAfterHeaders;
    closeWithPeer(stream);
    // An error of the stream shows as "close" too; without a listener it would end the process.
    stream.on("error", () => undefined);
    stream.on("wantTrailers", () => {
      if (!stream.destroyed) stream.sendTrailers(this.#trailer === undefined ? {} : toNodeHeaders(this.#trailer));
    });
    // RFC 9110, section 10.1.1: whoever asks waits for it.
    if (headers.expect?.toLowerCase() === "100-continue") stream.additionalHeaders({ ":status": 100 });
  }

  get method(): string {
    return this.#headers[":method"] ?? "";
  }

  get path(): string {
    return pathOf(this.#headers[":path"] ?? "/");
  }

  get url(): string {
    const { ":path": path = "/", ":authority": authority, host } = this.#headers;
    return urlOf(path, this.#scheme, authority ?? host ?? "localhost");
  }

  get headSent(): boolean {
    return this.#stream.headersSent;
  }

  get closed(): boolean {
    return this.#stream.destroyed || this.#stream.writableEnded;
  }

  receive(receiver: BodyReceiver): void {
    const stream = this.#stream;
    stream.on("data", (chunk: Uint8Array) => {
      receiver.onChunk(chunk);
    });
    let told = false;
    const end = (): void => {
      this.#received = true;
      if (told) return;
      told = true;
      receiver.onEnd();
    };
    stream.on("end", end);
    // node:http2 reads ahead: the end of a body without a byte may have been told before anybody listened.
    if (stream.readableEnded) end();
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  addHeader(name: string, value: string): void {
    this.#added ??= {};
    this.#added[name] = value;
  }

  sendHead(status: number, header: Headers): void {
    const stream = this.#stream;
    if (stream.headersSent || this.closed) return;
    stream.respond({ ":status": status, ...this.#added, ...toNodeHeaders(header) }, { waitForTrailers: true });
  }

  write(pieces: readonly Uint8Array[], sent?: () => void): boolean {
    // The answer to HEAD has ended with its headers.
    return this.closed || writePieces(this.#stream, pieces, sent);
  }

  onDrain(listener: () => void): void {
    if (this.#drained === undefined) this.#stream.on("drain", () => this.#drained?.());
    this.#drained = listener;
  }

  end(trailer?: Headers): void {
    const stream = this.#stream;
    this.#trailer = trailer;
    if (!this.#received && !stream.readableEnded) {
      // RFC 9113, section 8.1: a complete answer may be followed by RST_STREAM(NO_ERROR) to ask the client
      // to stop sending. Complete is after the trailers.
      stream.once("wantTrailers", () => {
        setImmediate(() => {
          if (!this.#received && !stream.closed) stream.close(constants.NGHTTP2_NO_ERROR);
        });
      });
    }
    stream.end();
  }

  reset(): void {
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  onClose(listener: (complete: boolean) => void): void {
    this.#stream.once("close", () => {
      listener(this.#stream.writableFinished);
    });
  }
}

/**
 * Sees that a stream that its peer has reset is over. With the code NO_ERROR Node
 * waits until the response has been written, which then never comes.
 */
function closeWithPeer(stream: ServerHttp2Stream): void {
  const destroy = (): void => {
    if (stream.closed && !stream.destroyed) stream.destroy();
  };
  stream.on("aborted", destroy);
  // While the response was being ended there is no "aborted".
  stream.on("end", destroy);
  // The reset may have come with the headers. Whoever serves the call hears of it as of any other end.
  setImmediate(destroy);
}
