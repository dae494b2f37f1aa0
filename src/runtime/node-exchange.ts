import type { OutgoingHttpHeaders, ServerResponse } from "node:http";
import { constants } from "node:http2";
import type { ServerHttp2Stream } from "node:http2";
import type { Readable, Writable } from "node:stream";
import { TLSSocket } from "node:tls";
import { writePieces } from "../wire/node-platform.ts";
import type { BodyReceiver, HttpExchange } from "./exchange.ts";
import { isHttp2, isHttp2Response } from "./node-types.ts";
import type { NodeRequest, NodeResponse } from "./node-types.ts";

/** How long a connection is still read after an answer that did not wait for the request, in milliseconds. */
const lingerMs = 1000;

/** What node:http and node:http2 give, as the runtime takes it. */
export class NodeExchange implements HttpExchange {
  readonly header: Headers;
  readonly connection: object | undefined;
  readonly #req: NodeRequest;
  readonly #res: NodeResponse;
  /** The body's streams. With HTTP/2 they are the stream itself, whose data the compatibility API would copy on. */
  readonly #source: Readable;
  readonly #sink: Writable;
  #received = false;
  #drained: (() => void) | undefined;

  constructor(req: NodeRequest, res: NodeResponse) {
    this.#req = req;
    this.#res = res;
    this.header = headersOf(req);
    this.connection = isHttp2(req) ? req.stream.session : req.socket;
    this.#source = isHttp2(req) ? req.stream : req;
    this.#sink = isHttp2Response(res) ? res.stream : res;
    if (isHttp2Response(res)) closeWithPeer(res.stream);
    // An error of the socket shows as "close" too; without a listener it would end the process.
    res.on("error", () => undefined);
    req.on("error", () => undefined);
  }

  get method(): string {
    return this.#req.method ?? "";
  }

  get path(): string {
    return (this.#req.url ?? "/").split("?", 1)[0] ?? "/";
  }

  get url(): string {
    const req = this.#req;
    const scheme = req.socket instanceof TLSSocket ? "https" : "http";
    const authority = (isHttp2(req) ? req.authority : req.headers.host) ?? "localhost";
    return urlOf(req.url ?? "/", scheme, authority);
  }

  get httpVersion(): string {
    return this.#req.httpVersion;
  }

  get peer(): string {
    const { remoteAddress, remotePort } = this.#req.socket;
    // As in a URL, so that an IPv6 address and its port can be told apart.
    const host = remoteAddress?.includes(":") === true ? `[${remoteAddress}]` : (remoteAddress ?? "?");
    return `${host}:${remotePort ?? "?"}`;
  }

  get headSent(): boolean {
    return this.#res.headersSent;
  }

  get closed(): boolean {
    return this.#sink.destroyed || this.#sink.writableEnded;
  }

  receive(receiver: BodyReceiver): void {
    this.#source.on("data", (chunk: Uint8Array) => {
      receiver.onChunk(chunk);
    });
    const end = (): void => {
      if (this.#received) return;
      this.#received = true;
      receiver.onEnd();
    };
    this.#source.on("end", end);
    // node:http2 reads ahead: the end of a body without a byte may have been told before anybody listened.
    if (this.#source.readableEnded) end();
  }

  pause(): void {
    this.#source.pause();
  }

  resume(): void {
    this.#source.resume();
  }

  sendHead(status: number, header: Headers): void {
    const res = this.#res;
    if (res.headersSent || res.destroyed || this.closed) return;
    // Both classes have this overload, but TypeScript cannot call a union of overloads.
    (res.writeHead as (status: number, headers: OutgoingHttpHeaders) => void)(status, toNodeHeaders(header));
    (res as { flushHeaders: () => void }).flushHeaders();
  }

  write(pieces: readonly Uint8Array[], sent?: () => void): boolean {
    return writePieces(this.#sink, pieces, sent);
  }

  onDrain(listener: () => void): void {
    if (this.#drained === undefined) this.#sink.on("drain", () => this.#drained?.());
    this.#drained = listener;
  }

  end(trailer?: Headers): void {
    const res = this.#res;
    const req = this.#req;
    if (trailer !== undefined) res.addTrailers(toNodeHeaders(trailer));
    if (this.#received || req.complete) {
      res.end();
      return;
    }
    if (isHttp2Response(res)) {
      const { stream } = res;
      // RFC 9113, section 8.1: a complete answer may be followed by RST_STREAM(NO_ERROR) to ask the client
      // to stop sending. Complete is after the trailers, which Node sends in its own listener.
      stream.once("wantTrailers", () => {
        setImmediate(() => {
          if (!this.#received && !stream.closed) stream.close(constants.NGHTTP2_NO_ERROR);
        });
      });
      res.end();
      return;
    }
    this.#endBeforeRequest(res, req);
  }

  /** Over HTTP/1.1. */
  #endBeforeRequest(res: ServerResponse, req: NodeRequest): void {
    const { socket } = req;
    const close = socket.destroySoon.bind(socket);
    let closing = false;
    // What is still arriving is read for a while: closing at once would reset the connection, and the reset
    // can overtake the answer (RFC 9112, section 9.6). A client that goes on sending is cut off then.
    // Node closes a connection that is not kept as soon as the answer is written: till then only this side ends.
    socket.destroySoon = () => {
      closing = true;
      socket.end();
    };
    res.once("close", () => {
      socket.destroySoon = close;
      const done = (): void => {
        clearTimeout(timer);
        if (closing || !req.complete) close();
      };
      this.#source.removeAllListeners("data");
      this.#source.resume();
      const timer = setTimeout(done, lingerMs).unref();
      if (req.complete) done();
      else req.once("close", done);
    });
    res.end();
  }

  reset(): void {
    if (isHttp2Response(this.#res)) this.#res.stream.close(constants.NGHTTP2_CANCEL);
    else this.#res.destroy();
  }

  onClose(listener: (complete: boolean) => void): void {
    this.#res.once("close", () => {
      listener(this.#res.writableFinished);
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

function headersOf(req: NodeRequest): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(req.headers)) {
    if (name.startsWith(":") || value === undefined) continue;
    if (Array.isArray(value)) {
      for (const one of value) headers.append(name, one);
    } else {
      headers.append(name, value);
    }
  }
  return headers;
}

/** What needs no second look: parsing a URL costs as much as the rest of a request's headers. */
const plainAuthority = /^[a-z0-9.-]+(:\d{1,5})?$/;
const plainPath = /^\/[A-Za-z0-9._/-]*$/;

function urlOf(path: string, scheme: string, authority: string): string {
  if (plainAuthority.test(authority) && plainPath.test(path) && !path.includes("..")) {
    return `${scheme}://${authority}${path}`;
  }
  try {
    return new URL(path, `${scheme}://${authority}`).toString();
  } catch {
    // A Host header can be anything; the path is what the call needs.
    return new URL(path, `${scheme}://localhost`).toString();
  }
}

function toNodeHeaders(header: Headers): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {};
  for (const [name, value] of header) {
    headers[name] = name === "set-cookie" ? header.getSetCookie() : value;
  }
  return headers;
}
