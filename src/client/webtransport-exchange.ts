import { Code, ConnectError } from "@connectrpc/connect";
import { HeadReader, encodeHead } from "../wire/webtransport-head.ts";
import type { ClientExchange, OpenExchange, ResponseReceiver } from "./client-exchange.ts";
import type { OpenSession, Sessions } from "./webtransport-session.ts";

/** Codes that streams are reset with: the low bytes of HTTP/3's (RFC 9114, section 8.1). */
const streamCodes = {
  noError: 0x00,
  internalError: 0x02,
  excessiveLoad: 0x07,
  rejected: 0x0b,
  canceled: 0x0c,
} as const;

/** What they mean for a call; all others are bugs of one of the two. */
const codesOfReset: Readonly<Record<number, Code>> = {
  [streamCodes.excessiveLoad]: Code.ResourceExhausted,
  [streamCodes.rejected]: Code.Unavailable,
  [streamCodes.canceled]: Code.Canceled,
};

/** Bytes of the head of a response. */
const maxHeadBytes = 64 * 1024;

/** How long it may take to hear why a session has ended, in milliseconds. */
const patienceMs = 1000;

/** Exchanges over WebTransport: a bidirectional stream each. */
export function createWebTransportExchanges(sessions: Sessions): OpenExchange {
  return async ({ method, url, header }, receiver) => {
    const getting = sessions.get();
    const session = await getting;
    const { pathname, search } = new URL(url);
    let stream: WebTransportBidirectionalStream;
    try {
      stream = await session.transport.createBidirectionalStream();
    } catch {
      sessions.leave(getting);
      throw await session.closed;
    }
    const head = encodeHead({ kind: "call", method, path: pathname + search, header });
    return new WebTransportClientExchange(session, stream, head, receiver, () => {
      sessions.leave(getting);
    });
  };
}

class WebTransportClientExchange implements ClientExchange {
  readonly #session: OpenSession;
  readonly #receiver: ResponseReceiver;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #onRejected: () => void;
  #resumed: PromiseWithResolvers<void> | undefined;
  /** The server wants no more of the body. */
  #enough = false;
  #ended = false;
  #over = false;

  constructor(
    session: OpenSession,
    stream: WebTransportBidirectionalStream,
    head: Uint8Array,
    receiver: ResponseReceiver,
    onRejected: () => void,
  ) {
    this.#session = session;
    this.#receiver = receiver;
    this.#onRejected = onRejected;
    this.#writer = (stream.writable as WritableStream<Uint8Array>).getWriter();
    this.#reader = (stream.readable as ReadableStream<Uint8Array>).getReader();
    // It says for all writes when they are of no use.
    this.#writer.closed.catch(() => {
      this.#stopped();
    });
    this.#put(head);
    this.#receive().catch((error: unknown) => {
      this.#broken(error);
    });
  }

  write(pieces: readonly Uint8Array[], sent: () => void): boolean {
    if (this.#over || this.#ended || this.#enough) return true;
    // The browser may take them later, and their memory is to be written again.
    this.#put(join(pieces));
    sent();
    if ((this.#writer.desiredSize ?? 0) > 0) return true;
    this.#writer.ready.then(
      () => {
        this.#drained();
      },
      () => undefined,
    );
    return false;
  }

  end(): void {
    if (this.#over || this.#ended || this.#enough) return;
    this.#ended = true;
    this.#writer.close().catch(() => undefined);
  }

  reset(why: "canceled" | "error"): void {
    if (this.#over) return;
    this.#over = true;
    this.#resumed?.resolve();
    this.#cut(why === "canceled" ? streamCodes.canceled : streamCodes.internalError);
  }

  /** No request is split here: nothing is wanted any more. */
  stopReceiving(): void {
    this.reset("canceled");
  }

  pause(): void {
    this.#resumed ??= Promise.withResolvers();
  }

  resume(): void {
    this.#resumed?.resolve();
    this.#resumed = undefined;
  }

  #put(bytes: Uint8Array): void {
    this.#writer.write(bytes).catch(() => undefined);
  }

  #drained(): void {
    if (!this.#over) this.#receiver.onDrain();
  }

  async #receive(): Promise<void> {
    const reader = this.#reader;
    const head = new HeadReader(maxHeadBytes);
    let begun = false;
    for (;;) {
      const { done, value } = await reader.read();
      if (this.#over) return;
      if (done) break;
      let chunk: Uint8Array = value;
      if (!begun) {
        const found = head.push(chunk);
        if (found === undefined) continue;
        if (found.head.kind !== "response")
          throw new ConnectError("protocol error: no head of a response", Code.Internal);
        begun = true;
        this.#receiver.onHead(found.head.status, found.head.header);
        chunk = found.rest;
      }
      // Told the receiver of the head, it may have had enough.
      if (this.#isOver()) return;
      if (chunk.byteLength > 0) this.#receiver.onChunk(chunk);
      await this.#resumed?.promise;
      if (this.#isOver()) return;
    }
    if (!begun) throw new ConnectError("the stream ended before the response had begun", Code.Unavailable);
    this.#over = true;
    // What is still being sent has no reader any more.
    if (!this.#ended) this.#writer.abort(streamError(streamCodes.noError)).catch(() => undefined);
    this.#receiver.onEnd(new Headers());
  }

  #isOver(): boolean {
    return this.#over;
  }

  /** The server wants no more, or the stream is lost: what comes back says which. */
  #stopped(): void {
    if (this.#over) return;
    this.#enough = true;
    this.#drained();
  }

  #broken(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#cut(streamCodes.canceled);
    const code = codeOf(error);
    if (code === streamCodes.rejected) this.#onRejected();
    this.#reason(error, code).then(
      (reason) => {
        this.#receiver.onError(reason);
      },
      () => undefined,
    );
  }

  /** A stream may be told of the end of the session before the session is. */
  async #reason(error: unknown, code: number | undefined): Promise<ConnectError> {
    if (error instanceof ConnectError) return error;
    // Chromium has plain ones too, such as for a stream whose session is gone.
    if (!(error instanceof DOMException)) return ConnectError.from(error, Code.Internal);
    if (code !== undefined && code !== streamCodes.noError) {
      const message = `the WebTransport stream was reset with error code 0x${code.toString(16)}`;
      return new ConnectError(message, codesOfReset[code] ?? Code.Internal);
    }
    const patience = Promise.withResolvers<ConnectError>();
    const timer = setTimeout(() => {
      patience.resolve(new ConnectError("the WebTransport stream was reset", Code.Unavailable));
    }, patienceMs);
    const reason = await Promise.race([this.#session.closed, patience.promise]);
    clearTimeout(timer);
    return reason;
  }

  #cut(code: number): void {
    this.#writer.abort(streamError(code)).catch(() => undefined);
    this.#reader.cancel(streamError(code)).catch(() => undefined);
  }
}

function join(pieces: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(pieces.reduce((size, piece) => size + piece.byteLength, 0));
  let at = 0;
  for (const piece of pieces) {
    joined.set(piece, at);
    at += piece.byteLength;
  }
  return joined;
}

function streamError(code: number): WebTransportError {
  try {
    return new WebTransportError("", { source: "stream", streamErrorCode: code });
  } catch {
    // Chromium 156 still has the constructor of an older draft of the API, with one argument.
    const Older = WebTransportError as unknown as new (init: { readonly streamErrorCode: number }) => WebTransportError;
    return new Older({ streamErrorCode: code });
  }
}

/** That a stream was reset with. */
function codeOf(error: unknown): number | undefined {
  if (!(error instanceof WebTransportError) || error.source !== "stream") return undefined;
  return error.streamErrorCode ?? undefined;
}
