import { HeadReader, encodeHead } from "../wire/webtransport-head.ts";
import type { CallHead, OpeningHead } from "../wire/webtransport-head.ts";
import { h3Codes, sessionGone } from "./engine.ts";
import type { ExchangeStream, Http3Stream, StreamListener } from "./engine.ts";
import { copyBytes } from "../wire/copy-bytes.ts";

/** Gets what a stream begins with, once. */
export interface HeadListener {
  onHead(head: CallHead | OpeningHead): void;
  /** It does not begin as it should, or has broken off. */
  onFailure(): void;
}

/**
 * A stream of a session: reads the head of the call, writes that of the
 * response, and is otherwise the body. Nothing of the body flows before `resume`.
 */
export class WebTransportStream implements ExchangeStream {
  readonly #stream: Http3Stream;
  readonly #timer: NodeJS.Timeout;
  readonly #reader: HeadReader;
  readonly #onHead: HeadListener;
  #listener: StreamListener | undefined;
  /** What came behind the head. */
  #rest: Uint8Array | undefined;
  #ended = false;
  #begun = false;
  #paused = false;
  #over = false;

  constructor(stream: Http3Stream, limits: { maxHeaderBytes: number; headerTimeout: number }, onHead: HeadListener) {
    this.#stream = stream;
    this.#onHead = onHead;
    this.#reader = new HeadReader(limits.maxHeaderBytes);
    this.#timer = setTimeout(() => {
      this.#refuse();
    }, limits.headerTimeout).unref();
    stream.listen({
      onLent: (chunk) => {
        if (this.#begun) this.#listener?.onLent(chunk);
        else this.#readHead(copyBytes(chunk));
      },
      onEnd: (trailer) => {
        this.#ended = true;
        if (!this.#begun) this.#refuse();
        else if (this.#rest === undefined) this.#listener?.onEnd(trailer);
      },
      onDrain: () => this.#listener?.onDrain(),
      onFinished: () => this.#listener?.onFinished(),
      onBroken: (end) => {
        clearTimeout(this.#timer);
        if (this.#listener !== undefined) this.#listener.onBroken(end);
        else this.#onHead.onFailure();
      },
    });
    stream.resume();
  }

  listen(listener: StreamListener): void {
    this.#listener = listener;
  }

  sendHead(status: number, header: Headers): void {
    this.#stream.write([encodeHead({ kind: "response", status, header })]);
  }

  write(pieces: readonly Uint8Array[]): boolean {
    return this.#stream.write(pieces);
  }

  /** Connect's protocol has no trailers but those in its messages. */
  finish(): void {
    this.#stream.finish();
  }

  reset(code: number): void {
    clearTimeout(this.#timer);
    this.#stream.reset(code);
  }

  /** The session is over. */
  abort(): void {
    this.reset(sessionGone);
    const listener = this.#listener;
    this.release();
    listener?.onBroken({ how: "local", code: sessionGone, reason: "the session is over" });
  }

  stopReading(code: number): void {
    this.#stream.stopReading(code);
  }

  pause(): void {
    this.#paused = true;
    this.#stream.pause();
  }

  resume(): void {
    this.#paused = false;
    if (this.#rest === undefined) {
      this.#stream.resume();
      return;
    }
    // Whoever asks has not expected it at once.
    queueMicrotask(() => {
      const rest = this.#rest;
      if (rest === undefined || this.#over) return;
      this.#rest = undefined;
      if (rest.byteLength > 0) this.#listener?.onLent(rest);
      if (this.#ended) this.#listener?.onEnd(new Headers());
      else if (!this.#paused) this.#stream.resume();
    });
  }

  release(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#stream.release();
  }

  #readHead(chunk: Uint8Array): void {
    let found: ReturnType<HeadReader["push"]>;
    try {
      found = this.#reader.push(chunk);
    } catch {
      this.#refuse();
      return;
    }
    if (found === undefined) return;
    if (found.head.kind === "response") {
      this.#refuse();
      return;
    }
    clearTimeout(this.#timer);
    this.#begun = true;
    this.#rest = found.rest;
    this.#stream.pause();
    this.#onHead.onHead(found.head);
  }

  #refuse(): void {
    this.reset(h3Codes.messageError);
    this.release();
    this.#onHead.onFailure();
  }
}
