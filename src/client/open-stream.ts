import { Code, ConnectError } from "@connectrpc/connect";
import { linkSignals, onAbort } from "../async/signals.ts";
import { maxTimerMs } from "../async/timers.ts";
import { codeOfStatus } from "../wire/status-code.ts";
import { DuplexStream } from "../wire/duplex-stream.ts";
import type { BidirectionalStream } from "../wire/duplex-stream.ts";
import { explainCertificate } from "./certificate-errors.ts";
import type { ClientExchange, OpenExchange, ResponseReceiver } from "./client-exchange.ts";
import type { TokenSource } from "./token-interceptor.ts";

export interface OpenStreamOptions {
  /** Sent with the request, besides the client's token. */
  readonly headers?: HeadersInit;
  /** Cuts the stream in both directions, at any time. */
  readonly signal?: AbortSignal;
  /** How long the server may take to allow the stream, in milliseconds. Default: the client's; 0 for no limit. */
  readonly timeoutMs?: number;
}

/** A stream that the server has allowed. */
export interface OpenedStream extends BidirectionalStream {
  /** The headers that the server has allowed it with. */
  readonly header: Headers;
}

/**
 * Asks for a stream: a path of the server, such as `/tunnel?to=a`, or a whole
 * URL of it. Only the headers are sent; it resolves once the server has allowed
 * the stream.
 *
 * Fails with a StreamDeniedError if the server denies it, and with another
 * ConnectError if it cannot be asked or does not answer. Nothing has been
 * written then.
 */
export type OpenStream = (target: string, options?: OpenStreamOptions) => Promise<OpenedStream>;

/** The server has denied a stream. Its code is what the status comes closest to. */
export class StreamDeniedError extends ConnectError {
  /** Of the HTTP response. */
  readonly status: number;
  /** What the server says, in a sentence. Empty if it says nothing. */
  readonly reason: string;
  /** Of the HTTP response. */
  readonly header: Headers;

  constructor(status: number, reason: string, header: Headers) {
    super(reason === "" ? `the server denied the stream with status ${status}` : reason, codeOfStatus(status));
    this.status = status;
    this.reason = reason;
    this.header = header;
  }

  /** ConnectError takes every error of its name for one of its own, and that would be all there is to a subclass. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return Object.prototype.isPrototypeOf.call(StreamDeniedError.prototype, value as object);
  }
}

export interface StreamOpenerOptions {
  readonly url: string;
  /** Absent if both directions at once cannot be had. */
  readonly open: OpenExchange | undefined;
  readonly token: TokenSource | undefined;
  /** Milliseconds. */
  readonly timeoutMs: number | undefined;
  /** Cuts all streams. */
  readonly closing: AbortSignal;
}

/** Bytes of a stream that wait for their reader before the server is asked to pause. */
const streamBufferBytes = 256 * 1024;

/** Bytes of a reason that are read. */
const maxReasonBytes = 8 * 1024;

/** Takes streams over, on whatever carries an HTTP exchange. */
export function createStreamOpener({ url, open, token, timeoutMs, closing }: StreamOpenerOptions): OpenStream {
  return async (target, options = {}) => {
    if (open === undefined) {
      throw new ConnectError(
        'over HTTP/1.1 no side can write while the other does: use httpVersion "2" or "3"',
        Code.Unimplemented,
      );
    }
    const header = new Headers(options.headers);
    if (token !== undefined && !header.has("authorization")) {
      header.set("authorization", `Bearer ${typeof token === "string" ? token : await token()}`);
    }
    if (!header.has("content-type")) header.set("content-type", "application/octet-stream");
    const opening = new StreamOpening(linkSignals(options.signal, closing), options.timeoutMs ?? timeoutMs);
    try {
      return await opening.start(open, targetOf(target, url), header);
    } catch (error) {
      throw explainCertificate(error, url);
    }
  };
}

/** What has been asked for, until it is over. */
class StreamOpening implements ResponseReceiver {
  readonly #life: ReturnType<typeof linkSignals>;
  readonly #answer = Promise.withResolvers<OpenedStream>();
  readonly #timer: ReturnType<typeof setTimeout> | undefined;
  #exchange: ClientExchange | undefined;
  #duplex: DuplexStream | undefined;
  #denial: { readonly status: number; readonly header: Headers; readonly chunks: Uint8Array[] } | undefined;

  constructor(life: ReturnType<typeof linkSignals>, timeoutMs: number | undefined) {
    this.#life = life;
    this.#answer.promise.catch(() => undefined);
    if (timeoutMs === undefined || timeoutMs <= 0) return;
    const late = new ConnectError(
      `the server has neither allowed nor denied the stream within ${timeoutMs} ms`,
      Code.DeadlineExceeded,
    );
    this.#timer = setTimeout(() => this.#life.abort(late), Math.min(timeoutMs, maxTimerMs));
  }

  async start(open: OpenExchange, url: string, header: Headers): Promise<OpenedStream> {
    const { signal } = this.#life;
    onAbort(signal, (reason) => {
      this.#exchange?.reset("canceled");
      this.onError(ConnectError.from(reason, Code.Canceled));
    });
    if (signal.aborted) return this.#answer.promise;
    open({ method: "POST", url, header, split: true }, this).then(
      (exchange) => {
        this.#exchange = exchange;
        if (signal.aborted) exchange.reset("canceled");
      },
      (error: unknown) => {
        this.onError(ConnectError.from(error, Code.Unavailable));
      },
    );
    return this.#answer.promise;
  }

  onHead(status: number, header: Headers): void {
    if (this.#life.signal.aborted) return;
    if (status < 200 || status > 299) {
      this.#denial = { status, header, chunks: [] };
      return;
    }
    clearTimeout(this.#timer);
    this.#duplex = new DuplexStream(
      {
        write: (pieces, sent) => this.#exchange?.write(pieces, sent) ?? true,
        end: () => this.#exchange?.end(),
        stopReceiving: () => this.#exchange?.stopReceiving(),
        reset: (why) => this.#exchange?.reset(why),
        pause: () => this.#exchange?.pause(),
        resume: () => this.#exchange?.resume(),
      },
      streamBufferBytes,
      this.#life.cleanup,
    );
    const { readable, writable } = this.#duplex;
    this.#answer.resolve({ readable, writable, header });
  }

  onChunk(chunk: Uint8Array): void {
    this.#duplex?.onChunk(chunk);
    if (this.#denial === undefined) return;
    this.#denial.chunks.push(chunk);
    if (this.#denial.chunks.reduce((sum, { byteLength }) => sum + byteLength, 0) > maxReasonBytes) {
      this.#deny();
      this.#exchange?.reset("canceled");
    }
  }

  onEnd(): void {
    this.#duplex?.onEnd();
    if (this.#denial === undefined) return;
    this.#deny();
    // Nothing has been sent, and nothing will be.
    this.#exchange?.end();
  }

  onDrain(): void {
    this.#duplex?.onDrain();
  }

  onStopped(): void {
    this.#duplex?.onStopped(new ConnectError("the server takes no more of this stream", Code.Canceled));
  }

  onError(error: ConnectError): void {
    this.#deny();
    this.#finish();
    this.#answer.reject(error);
    this.#duplex?.onBroken(error);
  }

  #deny(): void {
    if (this.#denial === undefined) return;
    const { status, header, chunks } = this.#denial;
    this.#denial = undefined;
    this.#finish();
    this.#answer.reject(new StreamDeniedError(status, reasonIn(chunks, header), header));
  }

  #finish(): void {
    clearTimeout(this.#timer);
    this.#life.cleanup();
  }
}

function targetOf(target: string, base: string): string {
  const root = base.replace(/\/+$/, "");
  if (target.startsWith("/")) return `${root}${target}`;
  if (URL.parse(target)?.origin === new URL(base).origin) return target;
  throw new TypeError(`${target} is neither a path, such as /tunnel, nor a URL of ${base}`);
}

/** A sentence of plain text, or the message of an error in JSON. */
function reasonIn(chunks: readonly Uint8Array[], header: Headers): string {
  const decoder = new TextDecoder();
  const text = chunks.map((chunk) => decoder.decode(chunk, { stream: true })).join("") + decoder.decode();
  if (header.get("content-type")?.startsWith("application/json") !== true) return text.trim();
  try {
    const { message } = JSON.parse(text) as { readonly message?: unknown };
    return typeof message === "string" ? message : text.trim();
  } catch {
    return text.trim();
  }
}
