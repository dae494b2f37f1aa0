import type { BodyReceiver, HttpExchange } from "../runtime/exchange.ts";
import { lend } from "../wire/lent.ts";
import { h3Codes } from "./engine.ts";
import type { ExchangeStream, RequestHead, StreamListener } from "./engine.ts";

/** A connection, by identity. */
export interface Http3Connection {
  readonly peer: string;
}

/** A request over HTTP/3, as the runtime takes it. */
export class Http3Exchange implements HttpExchange {
  readonly fullDuplex = true;
  readonly copiesWrites = true;
  readonly httpVersion: string;
  readonly connection: Http3Connection;
  readonly #stream: ExchangeStream;
  readonly #head: RequestHead;
  #receiver: BodyReceiver | undefined;
  #received = false;
  #added: [name: string, value: string][] = [];
  #headSent = false;
  #ended = false;
  /** The response is out. */
  #finished = false;
  #stopped: (() => void) | undefined;
  #over = false;
  #drained = (): void => undefined;
  readonly #closeListeners: ((complete: boolean) => void)[] = [];

  constructor(stream: ExchangeStream, head: RequestHead, connection: Http3Connection, httpVersion = "3.0") {
    this.httpVersion = httpVersion;
    this.#stream = stream;
    this.#head = head;
    this.connection = connection;
    stream.listen(this.#listener());
  }

  get method(): string {
    return this.#head.method;
  }

  get path(): string {
    return this.#head.target.split("?", 1)[0] ?? "/";
  }

  get authority(): string | undefined {
    const { authority, header } = this.#head;
    return authority === "" ? (header.get("host") ?? undefined) : authority;
  }

  get url(): string {
    const { scheme, authority, target } = this.#head;
    const base = `${scheme}://${authority === "" ? "localhost" : authority}`;
    return (URL.parse(target, base) ?? new URL(target, "https://localhost")).toString();
  }

  get header(): Headers {
    return this.#head.header;
  }

  get peer(): string {
    return this.connection.peer;
  }

  get headSent(): boolean {
    return this.#headSent;
  }

  get closed(): boolean {
    return this.#ended || this.#over;
  }

  receive(receiver: BodyReceiver): void {
    this.#receiver = receiver;
    this.#stream.resume();
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  addHeader(name: string, value: string): void {
    this.#added.push([name, value]);
  }

  sendHead(status: number, header: Headers): void {
    if (this.#headSent || this.closed) return;
    this.#headSent = true;
    for (const [name, value] of this.#added) header.set(name, value);
    this.#stream.sendHead(status, header);
  }

  write(pieces: readonly Uint8Array[], sent?: () => void): boolean {
    if (this.closed) return true;
    const open = this.#stream.write(pieces);
    // They have been copied.
    sent?.();
    return open;
  }

  end(trailer?: Headers): void {
    if (this.closed) return;
    this.#ended = true;
    this.#stream.finish(trailer);
  }

  reset(why?: "canceled" | "error"): void {
    if (this.#over) return;
    this.#stream.reset(why === "error" ? h3Codes.internalError : h3Codes.requestCancelled);
    this.#close(false);
  }

  split(onStopped: () => void): void {
    this.#stopped = onStopped;
  }

  stopReceiving(): void {
    if (this.#over || this.#received) return;
    this.#stream.stopReading(h3Codes.noError);
    this.#endReceiving();
  }

  onDrain(listener: () => void): void {
    this.#drained = listener;
  }

  onClose(listener: (complete: boolean) => void): void {
    this.#closeListeners.push(listener);
  }

  #listener(): StreamListener {
    return {
      onLent: (chunk) => {
        lend(chunk, this.#receiver);
      },
      onEnd: () => {
        this.#receiver?.onEnd();
        this.#endReceiving();
      },
      onDrain: () => {
        this.#drained();
      },
      onFinished: () => {
        if (!this.#ended && this.#stopped === undefined) {
          // The peer does not wait for the answer.
          this.reset();
          return;
        }
        this.#finished = true;
        if (!this.#ended) {
          this.#ended = true;
          this.#stopped?.();
        }
        if (this.#stopped === undefined) {
          // A complete answer does not need the rest of the request: RFC 9114, section 4.1.
          this.stopReceiving();
          this.#close(true);
        } else if (this.#received) {
          this.#close(true);
        }
      },
      onBroken: ({ how, code }) => {
        // A client that has its answer need not send the rest of its request.
        const answered = this.#ended && this.#stopped === undefined && how === "peer" && code === h3Codes.noError;
        this.#close(answered);
      },
    };
  }

  /** All of the request has arrived, or as much as was wanted. */
  #endReceiving(): void {
    this.#received = true;
    if (this.#stopped !== undefined && this.#finished) this.#close(true);
  }

  #close(complete: boolean): void {
    if (this.#over) return;
    this.#over = true;
    this.#stream.release();
    for (const listener of this.#closeListeners) listener(complete);
  }
}
