import { guarded } from "../async/guard.ts";
import type { OnUnexpected } from "../async/guard.ts";
import { maxTimerMs } from "../async/timers.ts";
import { fromFields, toFields } from "./fields.ts";
import { loadBinding } from "./load-binding.ts";
import { eventKinds } from "./native.ts";
import type { NativeCounters, NativeEngine, NativeEvent } from "./native.ts";

/** RFC 9114, section 8.1. */
export const h3Codes = {
  noError: 0x100,
  internalError: 0x102,
  excessiveLoad: 0x107,
  requestRejected: 0x10b,
  requestCancelled: 0x10c,
  messageError: 0x10e,
} as const;

/** WEBTRANSPORT_SESSION_GONE: draft-ietf-webtrans-http3, section 9.5. */
export const sessionGone = 0x170d7b68;

/** How a stream or a connection has ended before its time. */
export interface End {
  /** "peer" has sent a code; "local" is what this side finds wrong. */
  readonly how: "peer" | "local" | "lost" | "timeout" | "handshake";
  readonly code: number | undefined;
  readonly reason: string;
}

/** Gets what happens to one stream. Nothing is called after `onBroken`. */
export interface StreamListener {
  /** The head of a response. */
  onHead?(status: number, header: Headers): void;
  /** Bytes of the peer's body, in memory that is written again after the call. */
  onLent(chunk: Uint8Array): void;
  /** The peer's body is complete. */
  onEnd(trailer: Headers): void;
  onDrain(): void;
  /** All that was written, and its end, is on its way; or the peer wants no more of it. */
  onFinished(): void;
  onBroken(end: End): void;
}

export interface RequestHead {
  readonly connection: number;
  readonly method: string;
  readonly scheme: string;
  readonly authority: string;
  /** With the query. */
  readonly target: string;
  /** Of an extended CONNECT (RFC 9220), such as "webtransport". */
  readonly protocol?: string;
  readonly header: Headers;
}

export interface EngineListener {
  onConnectionOpened?(connection: number, peer: string): void;
  onConnectionClosed?(connection: number, end: End): void;
  /** The stream's body does not flow before `resume`. */
  onRequest?(stream: Http3Stream, head: RequestHead): void;
  /** A stream of the WebTransport session that is known by its request's number. It does not flow before `resume`. */
  onSessionStream?(session: number, stream: Http3Stream): void;
  onDatagrams?(session: number, datagrams: readonly Uint8Array[]): void;
  /** Gets what a listener throws. The stream that the event was about is broken off. */
  onUnexpected?: OnUnexpected;
  /** Whether a server has given the sign of life that it was asked for; false if its connection has ended first. */
  onChecked?(connection: number, answered: boolean): void;
  /** A server owes an answer for seconds: another connection to it is to be tried. */
  onSilent?(connection: number): void;
  /** The process's engine has panicked; the message ends with the place. */
  onPanic?(message: string): void;
}

/** What an exchange does with its stream. */
export type ExchangeStream = Pick<
  Http3Stream,
  "listen" | "sendHead" | "write" | "finish" | "reset" | "stopReading" | "pause" | "resume" | "release"
>;

/** Bytes of bodies that handlers get in one turn of the event loop, at most. */
const maxTakenBytes = 256 * 1024;

/**
 * Who is told of what happens to a stream, by its number. A Map makes itself anew every few changes, and what is in its
 * old tables lives until the next full collection: so they only have a place for the listener, which is then empty.
 */
class StreamListeners {
  readonly #places = new Map<number, { listener: StreamListener | undefined }>();

  get(id: number): StreamListener | undefined {
    return this.#places.get(id)?.listener;
  }

  set(id: number, listener: StreamListener): void {
    this.#places.set(id, { listener });
  }

  delete(id: number): void {
    const place = this.#places.get(id);
    if (place === undefined) return;
    place.listener = undefined;
    this.#places.delete(id);
  }
}

/** Kinds of events whose number is a connection's. */
const aboutConnection: ReadonlySet<number> = new Set([eventKinds.connectionOpened, eventKinds.connectionClosed]);

/** QUIC and HTTP/3 of one server or one client. What they do comes back in events, all that there are at once. */
export class Http3Engine {
  readonly native: NativeEngine;
  readonly #listener: EngineListener;
  readonly #streams = new StreamListeners();
  #holding: NodeJS.Timeout | undefined;
  #holds = 0;
  /** Where chunks are until they have been dispatched. */
  readonly #taken = Buffer.allocUnsafeSlow(maxTakenBytes);
  /** Events are going to be taken. */
  #soon = false;

  /** Fails with "config" if there is no engine for this machine. */
  constructor(listener: EngineListener) {
    const { NativeEngine } = loadBinding();
    this.#listener = listener;
    this.native = new NativeEngine(() => {
      this.#takeSoon();
    });
  }

  get counters(): NativeCounters {
    return this.native.counters();
  }

  /** Keeps the process alive until `release` has been called as often: the engine by itself does not. */
  hold(): void {
    if (this.#holds++ === 0) this.#holding = setInterval(() => undefined, maxTimerMs);
  }

  release(): void {
    if (--this.#holds === 0) clearInterval(this.#holding);
  }

  request(connection: number, method: string, url: string, header: Headers, listener: StreamListener): Http3Stream {
    const id = this.native.request(connection, method, url, toFields(header));
    this.#streams.set(id, listener);
    return new Http3Stream(this.native, id, this.#streams);
  }

  /**
   * Takes what has happened, once in a turn of the event loop. Node calls a native wake again and again while there is
   * another one, and under load there always is: then no timer and no socket would have its turn, and none of the
   * memory would be freed that JavaScript has let go of.
   */
  #takeSoon(): void {
    if (this.#soon) return;
    this.#soon = true;
    setImmediate(() => {
      this.#soon = false;
      this.#take();
    });
  }

  #take(): void {
    const { events, more } = this.native.take(this.#taken);
    let at = 0;
    for (const event of events) {
      const begin = at;
      at += event.length ?? 0;
      try {
        if (event.length === undefined) this.#dispatch(event);
        else this.#streams.get(event.id)?.onLent(new Uint8Array(this.#taken.buffer, begin, event.length));
      } catch (error) {
        this.#failed(event, error);
      }
    }
    if (more) this.#takeSoon();
  }

  /** The other events of the turn belong to others, and are dispatched. */
  #failed({ kind, id }: NativeEvent, error: unknown): void {
    this.#listener.onUnexpected?.(error);
    if (aboutConnection.has(kind)) {
      this.native.closeConnection(id);
      return;
    }
    const stream = this.#streams.get(id);
    this.#streams.delete(id);
    this.native.reset(id, h3Codes.internalError);
    this.native.stopReading(id, h3Codes.internalError);
    this.native.release(id);
    const reason = error instanceof Error ? error.message : String(error);
    guarded(ignore, () => stream?.onBroken({ how: "local", code: h3Codes.internalError, reason }))();
  }

  #dispatch({ kind, id, connection = 0, code, text = [], datagrams = [] }: NativeEvent): void {
    switch (kind) {
      case eventKinds.connectionOpened:
        this.#listener.onConnectionOpened?.(id, text[0] ?? "");
        return;
      case eventKinds.connectionClosed:
        this.#listener.onConnectionClosed?.(id, endOf(text, code));
        return;
      case eventKinds.request: {
        const [method = "", scheme = "", authority = "", target = "", protocol = ""] = text;
        const stream = new Http3Stream(this.native, id, this.#streams);
        this.#listener.onRequest?.(stream, {
          connection,
          method,
          scheme,
          authority,
          target,
          ...(protocol === "" ? {} : { protocol }),
          header: fromFields(text, 5),
        });
        return;
      }
      case eventKinds.sessionStream:
        this.#listener.onSessionStream?.(connection, new Http3Stream(this.native, id, this.#streams));
        return;
      case eventKinds.datagrams:
        this.#listener.onDatagrams?.(id, datagrams);
        return;
      case eventKinds.checked:
        this.#listener.onChecked?.(id, code === 1);
        return;
      case eventKinds.silent:
        this.#listener.onSilent?.(id);
        return;
      case eventKinds.panicked:
        this.#listener.onPanic?.(text[0] ?? "");
        return;
    }
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    switch (kind) {
      case eventKinds.head:
        stream.onHead?.(code ?? 0, fromFields(text));
        return;
      case eventKinds.end:
        stream.onEnd(fromFields(text));
        return;
      case eventKinds.drained:
        stream.onDrain();
        return;
      case eventKinds.finished:
        stream.onFinished();
        return;
      case eventKinds.broken:
        this.#streams.delete(id);
        // The other direction may still be open.
        this.native.reset(id, h3Codes.requestCancelled);
        this.native.release(id);
        stream.onBroken(endOf(text, code));
        return;
    }
  }
}

/** One request and its response. Nothing that is asked of a stream that is over has an effect. */
export class Http3Stream {
  readonly #native: NativeEngine;
  readonly #id: number;
  readonly #listeners: StreamListeners;

  constructor(native: NativeEngine, id: number, listeners: StreamListeners) {
    this.#native = native;
    this.#id = id;
    this.#listeners = listeners;
  }

  /** What the engine knows it by; of a request that opens a session, what it knows the session by. */
  get id(): number {
    return this.#id;
  }

  listen(listener: StreamListener): void {
    this.#listeners.set(this.#id, listener);
  }

  sendHead(status: number, header: Headers): void {
    this.#native.sendHead(this.#id, status, toFields(header));
  }

  /** Copies the pieces. False if the peer does not keep up: then `onDrain` follows. */
  write(pieces: readonly Uint8Array[]): boolean {
    let open = true;
    const last = pieces.length - 1;
    for (const [i, piece] of pieces.entries()) open = this.#native.write(this.#id, piece, i < last);
    return open;
  }

  finish(trailer?: Headers): void {
    this.#native.finish(this.#id, trailer === undefined ? [] : toFields(trailer));
  }

  reset(code: number): void {
    this.#native.reset(this.#id, code);
  }

  stopReading(code: number): void {
    this.#native.stopReading(this.#id, code);
  }

  pause(): void {
    this.#native.pause(this.#id);
  }

  resume(): void {
    this.#native.resume(this.#id);
  }

  /** On the session that this request has opened. False if it cannot be sent. */
  sendDatagram(bytes: Uint8Array): boolean {
    return this.#native.sendDatagram(this.#id, bytes);
  }

  /** Bytes of the largest datagram that fits now; 0 if the peer takes none. */
  get maxDatagram(): number {
    return this.#native.maxDatagram(this.#id);
  }

  /** Nothing more is wanted of it. What has been written still goes out. */
  release(): void {
    this.#listeners.delete(this.#id);
    this.#native.release(this.#id);
  }
}

function endOf([how = "lost", reason = ""]: readonly string[], code: number | undefined): End {
  return { how: how as End["how"], code, reason };
}

function ignore(): void {
  // The stream has failed before, which has been reported.
}
