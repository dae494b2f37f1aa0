import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import { guarded } from "../async/guard.ts";
import type { OnUnexpected } from "../async/guard.ts";
import { fromNodeHeaders, toNodeHeaders } from "../wire/node-headers.ts";
import { writePieces } from "../wire/node-platform.ts";
import type { BodyReceiver, HttpExchange } from "./exchange.ts";
import { pathOf, peerOf, schemeOf, targetOf, urlOf } from "./node-address.ts";
import type { Target } from "./node-address.ts";

/** How long a connection is still read after an answer that did not wait for the request, in milliseconds. */
const lingerMs = 1000;

/** A request of node:http, as the runtime takes it. */
export class NodeHttp1Exchange implements HttpExchange {
  readonly fullDuplex = false;
  readonly copiesWrites = false;
  readonly header: Headers;
  readonly connection: object;
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #onUnexpected: OnUnexpected;
  readonly #target: Target;
  #received = false;
  #drained: (() => void) | undefined;

  constructor(req: IncomingMessage, res: ServerResponse, onUnexpected: OnUnexpected) {
    this.#req = req;
    this.#res = res;
    this.#onUnexpected = onUnexpected;
    this.#target = targetOf(req.url ?? "/");
    this.header = fromNodeHeaders(req.headers);
    this.connection = req.socket;
    // An error of the socket shows as "close" too; without a listener it would end the process.
    res.on("error", () => undefined);
    req.on("error", () => undefined);
  }

  get method(): string {
    return this.#req.method ?? "";
  }

  get path(): string {
    return pathOf(this.#target.path);
  }

  get authority(): string | undefined {
    return this.#target.authority ?? this.#req.headers.host;
  }

  get url(): string {
    return urlOf(this.#target.path, schemeOf(this.#req.socket), this.authority ?? "localhost");
  }

  get httpVersion(): string {
    return this.#req.httpVersion;
  }

  get peer(): string {
    return peerOf(this.#req.socket);
  }

  get headSent(): boolean {
    return this.#res.headersSent;
  }

  get closed(): boolean {
    return this.#res.destroyed || this.#res.writableEnded;
  }

  receive(receiver: BodyReceiver): void {
    const req = this.#req;
    const onData = guarded(this.#fail, (chunk: Uint8Array) => {
      receiver.onChunk(chunk);
    });
    const onEnd = guarded(this.#fail, () => {
      if (this.#received) return;
      this.#received = true;
      receiver.onEnd();
    });
    req.on("data", onData);
    req.on("end", onEnd);
    if (req.readableEnded) onEnd();
  }

  pause(): void {
    this.#req.pause();
  }

  resume(): void {
    this.#req.resume();
  }

  addHeader(name: string, value: string): void {
    this.#res.setHeader(name, value);
  }

  sendHead(status: number, header: Headers): void {
    const res = this.#res;
    if (res.headersSent || this.closed) return;
    const headers: OutgoingHttpHeaders = toNodeHeaders(header);
    try {
      res.writeHead(status, headers);
      res.flushHeaders();
    } catch (error) {
      this.#fail(error);
    }
  }

  write(pieces: readonly Uint8Array[], sent?: () => void): boolean {
    return writePieces(this.#res, pieces, sent);
  }

  onDrain(listener: () => void): void {
    if (this.#drained === undefined) {
      const onDrain = guarded(this.#fail, () => this.#drained?.());
      this.#res.on("drain", onDrain);
    }
    this.#drained = listener;
  }

  end(trailer?: Headers): void {
    const res = this.#res;
    const req = this.#req;
    try {
      if (trailer !== undefined) res.addTrailers(toNodeHeaders(trailer));
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (this.#received || req.complete) res.end();
    else this.#endBeforeRequest(res, req);
  }

  #endBeforeRequest(res: ServerResponse, req: IncomingMessage): void {
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
      req.removeAllListeners("data");
      req.resume();
      const timer = setTimeout(done, lingerMs).unref();
      if (req.complete) done();
      else req.once("close", done);
    });
    res.end();
  }

  reset(): void {
    this.#res.destroy();
  }

  split(): void {
    throw new Error("HTTP/1.1 has no directions that end on their own");
  }

  stopReceiving(): void {
    this.#req.removeAllListeners("data");
    this.#req.resume();
  }

  onClose(listener: (complete: boolean) => void): void {
    const onClose = guarded(this.#fail, () => {
      listener(this.#res.writableFinished);
    });
    this.#res.once("close", onClose);
  }

  readonly #fail = (error: unknown): void => {
    this.#onUnexpected(error);
    this.reset();
  };
}
