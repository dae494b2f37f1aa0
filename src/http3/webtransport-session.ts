import { Code, ConnectError } from "@connectrpc/connect";
import { codeToHttpStatus, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import type { HttpExchange } from "../runtime/exchange.ts";
import type { CallHead, OpeningHead } from "../wire/webtransport-head.ts";
import { CapsuleReader, encodeClose, encodeDrain } from "./capsules.ts";
import { h3Codes } from "./engine.ts";
import type { Http3Stream, RequestHead } from "./engine.ts";
import { Http3Exchange } from "./http3-exchange.ts";
import type { Http3Connection } from "./http3-exchange.ts";
import { WebTransportStream } from "./webtransport-stream.ts";
import { copyBytes } from "../wire/copy-bytes.ts";

/** A session of WebTransport with a page that has been let in. */
export interface WebTransportSession {
  /** Address and port of the peer. */
  readonly peer: string;
  /** Of the page; undefined if a program that is no browser has opened it. */
  readonly origin: string | undefined;
  /** Bytes of the largest datagram that fits now; 0 if the peer takes none. */
  readonly maxDatagramSize: number;
  /** Aborted when the session is over. */
  readonly signal: AbortSignal;
  /** Sends a datagram, which may get lost. False if it cannot be sent: it is too large, or the session is over. */
  sendDatagram(bytes: Uint8Array): boolean;
  /** Replaces the listener. Those that came before there was one are lost, as datagrams may be. */
  onDatagram(listener: (bytes: Uint8Array) => void): void;
  /** Ends the session and what runs on it. `code` is one of Connect's, or 0. */
  close(code?: number, reason?: string): void;
}

export interface SessionOptions {
  readonly serve: (exchange: HttpExchange) => void;
  /**
   * Checks the header of the first message. Fails with a ConnectError, which the page is told. Resolves with what is to
   * be called once the session is open.
   */
  readonly admit: (header: Headers) => Promise<(session: WebTransportSession) => void>;
  /** A datagram has passed. */
  readonly onUsed: () => void;
  /** The page has given up a stream before it was a call. */
  readonly onAbandoned: () => void;
  /** A session is refused: with which code, and to whom (address and port). */
  readonly onRefused?: (code: Code, peer: string) => void;
  /** Bytes of one head. */
  readonly maxHeaderBytes: number;
  /** How long heads, and the first message, may take, in milliseconds. */
  readonly headerTimeout: number;
}

/** How long a page may take to end its side of a closed session, in milliseconds. */
const farewellMs = 1000;

type State = "opening" | "admitting" | "open" | "refused" | "over";

/** One session: its first message, its calls, its datagrams, its end. */
export class Session implements WebTransportSession {
  readonly #request: Http3Stream;
  readonly #head: RequestHead;
  readonly #connection: Http3Connection;
  readonly #options: SessionOptions;
  readonly #onOver: () => void;
  readonly #capsules = new CapsuleReader();
  readonly #streams = new Set<WebTransportStream>();
  readonly #over = new AbortController();
  readonly #timer: NodeJS.Timeout;
  /** Calls that have come before they may be served. */
  #early: (() => void)[] = [];
  #state: State = "opening";
  #draining = false;
  #farewell: NodeJS.Timeout | undefined;
  #header = new Headers();
  #datagram = (_bytes: Uint8Array): void => undefined;

  constructor(
    request: Http3Stream,
    head: RequestHead,
    connection: Http3Connection,
    options: SessionOptions,
    onOver: () => void,
  ) {
    this.#request = request;
    this.#head = head;
    this.#connection = connection;
    this.#options = options;
    this.#onOver = onOver;
    this.#timer = setTimeout(() => {
      this.#options.onRefused?.(Code.DeadlineExceeded, this.peer);
      this.close(Code.DeadlineExceeded, "the session's first message has not come");
    }, options.headerTimeout).unref();
    request.listen({
      onLent: (chunk) => {
        this.#capsule(copyBytes(chunk));
      },
      onEnd: () => {
        this.#closed();
        this.#leave();
      },
      onDrain: () => undefined,
      onFinished: () => undefined,
      onBroken: () => {
        this.#end(() => undefined);
        this.#leave();
      },
    });
    // What the draft that Chromium speaks asks for: draft-ietf-webtrans-http3-02, section 3.3.
    request.sendHead(200, new Headers({ "sec-webtransport-http3-draft": "draft02" }));
    request.resume();
  }

  get peer(): string {
    return this.#connection.peer;
  }

  get origin(): string | undefined {
    return this.#head.header.get("origin") ?? undefined;
  }

  get maxDatagramSize(): number {
    return this.#request.maxDatagram;
  }

  get signal(): AbortSignal {
    return this.#over.signal;
  }

  sendDatagram(bytes: Uint8Array): boolean {
    if (this.#state !== "open" || !this.#request.sendDatagram(bytes)) return false;
    this.#options.onUsed();
    return true;
  }

  onDatagram(listener: (bytes: Uint8Array) => void): void {
    this.#datagram = listener;
  }

  close(code = 0, reason = ""): void {
    this.#end(() => {
      this.#request.write([encodeClose({ code, reason })]);
      this.#request.finish();
      // The page answers with its own end. Asked to stop sending instead, Chromium forgets code and reason.
      this.#farewell = setTimeout(() => {
        this.#leave();
      }, farewellMs).unref();
    });
  }

  /** Takes no more calls, and closes with the last one. */
  drain(): void {
    if (this.#draining || this.#state === "over") return;
    this.#draining = true;
    this.#request.write([encodeDrain()]);
    this.#closeIfDone();
  }

  datagrams(datagrams: readonly Uint8Array[]): void {
    if (this.#state !== "open") return;
    this.#options.onUsed();
    for (const datagram of datagrams) this.#datagram(datagram);
  }

  /** The page has opened a stream. */
  stream(raw: Http3Stream): void {
    if (this.#state === "over" || this.#draining) {
      raw.reset(h3Codes.requestRejected);
      raw.release();
      return;
    }
    const stream: WebTransportStream = new WebTransportStream(raw, this.#options, {
      onHead: (head) => {
        if (head.kind === "opening") this.#opening(stream, head);
        else if (this.#state === "open") this.#call(stream, head);
        else this.#early.push(() => this.#call(stream, head));
      },
      onFailure: () => {
        this.#gone(stream);
        this.#options.onAbandoned();
      },
    });
    this.#streams.add(stream);
  }

  #opening(stream: WebTransportStream, head: OpeningHead): void {
    if (this.#state !== "opening") {
      stream.reset(h3Codes.messageError);
      stream.release();
      this.#gone(stream);
      return;
    }
    this.#state = "admitting";
    this.#header = head.header;
    clearTimeout(this.#timer);
    this.#options.admit(head.header).then(
      (onOpen) => {
        if (this.#state !== "admitting") return;
        this.#state = "open";
        this.#answer(stream, 200);
        onOpen(this);
        for (const begin of this.#early.splice(0)) begin();
        this.#closeIfDone();
      },
      (error: unknown) => {
        if (this.#state !== "admitting") return;
        const refusal = ConnectError.from(error);
        this.#state = "refused";
        this.#options.onRefused?.(refusal.code, this.peer);
        this.#answer(stream, codeToHttpStatus(refusal.code), errorToJsonBytes(refusal, undefined));
        // The page closes the session when it has read that: what a session is closed with gets lost at times, because
        // Chromium's page may hear of the end first.
        this.#farewell = setTimeout(() => {
          this.close(refusal.code, refusal.rawMessage);
        }, farewellMs).unref();
      },
    );
  }

  /** Of the first message. */
  #answer(stream: WebTransportStream, status: number, body?: Uint8Array): void {
    stream.sendHead(status, new Headers(body === undefined ? {} : { "content-type": "application/json" }));
    if (body !== undefined) stream.write([body]);
    stream.finish();
    stream.stopReading(h3Codes.noError);
    stream.release();
    this.#streams.delete(stream);
  }

  #call(stream: WebTransportStream, { method, path, header }: CallHead): void {
    if (!this.#streams.has(stream)) return;
    for (const [name, value] of this.#header) {
      if (!header.has(name)) header.set(name, value);
    }
    const head = { ...this.#head, method, target: path, header };
    const exchange = new Http3Exchange(stream, head, this.#connection, "webtransport");
    exchange.onClose(() => {
      this.#gone(stream);
    });
    // Trailers would be lost, and with them gRPC's status.
    if (/^application\/grpc/.test(header.get("content-type") ?? "")) {
      exchange.sendHead(415, new Headers());
      exchange.end();
      return;
    }
    this.#options.serve(exchange);
  }

  #gone(stream: WebTransportStream): void {
    this.#streams.delete(stream);
    this.#closeIfDone();
  }

  #closeIfDone(): void {
    if (!this.#draining || this.#streams.size > 0 || this.#state === "refused") return;
    this.close(Code.Unavailable, "the server takes no more calls on this connection: open another session");
  }

  #capsule(chunk: Uint8Array): void {
    if (this.#state === "over") return;
    try {
      if (this.#capsules.push(chunk) !== undefined) this.#closed();
    } catch {
      this.#end(() => {
        this.#request.reset(h3Codes.messageError);
        this.#leave();
      });
    }
  }

  /** The page has closed it: nothing is left to say. */
  #closed(): void {
    this.#end(() => {
      this.#request.finish();
      this.#leave();
    });
  }

  /** Nothing more is read. */
  #leave(): void {
    clearTimeout(this.#farewell);
    this.#request.stopReading(h3Codes.noError);
    this.#request.release();
  }

  #end(farewell: () => void): void {
    if (this.#state === "over") return;
    this.#state = "over";
    clearTimeout(this.#timer);
    clearTimeout(this.#farewell);
    this.#early = [];
    for (const stream of [...this.#streams]) stream.abort();
    this.#streams.clear();
    farewell();
    this.#over.abort(new ConnectError("the session is over", Code.Canceled));
    this.#onOver();
  }
}
