import { Code, ConnectError } from "@connectrpc/connect";
import type { UniversalClientFn, UniversalClientResponse } from "@connectrpc/connect/protocol";
import { onAbort } from "../async/signals.ts";
import { ChunkQueue } from "../wire/chunk-queue.ts";
import type { ClientExchange, OpenExchange } from "./client-exchange.ts";

/** What Connect's own transports send unary calls with, over whatever carries an HTTP exchange. */
export function createUniversalClient(open: OpenExchange): UniversalClientFn {
  return async ({ url, method, header, body, signal }) => {
    const response = new Response();
    const exchange = await open({ method, url, header }, response);
    response.begin(exchange, signal);
    if (body === undefined) exchange.end();
    else send(body, exchange, response).catch((error: unknown) => response.fail(error));
    return response.head;
  };
}

async function send(body: AsyncIterable<Uint8Array>, exchange: ClientExchange, response: Response): Promise<void> {
  for await (const chunk of body) {
    if (response.over) return;
    if (!exchange.write([chunk], () => undefined)) await response.drained();
  }
  exchange.end();
}

/** A response as it arrives; its body is read once. */
class Response {
  readonly #head = Promise.withResolvers<UniversalClientResponse>();
  readonly #trailer = new Headers();
  readonly #chunks = new ChunkQueue({
    pause: () => this.#exchange?.pause(),
    resume: () => this.#exchange?.resume(),
  });
  #over = false;
  #exchange: ClientExchange | undefined;
  #unlink = (): void => undefined;
  #drained = (): void => undefined;

  constructor() {
    // Whoever waits for the head is told; a body that is never read has no reader to tell.
    this.#head.promise.catch(() => undefined);
  }

  get head(): Promise<UniversalClientResponse> {
    return this.#head.promise;
  }

  get over(): boolean {
    return this.#over;
  }

  begin(exchange: ClientExchange, signal: AbortSignal | undefined): void {
    this.#exchange = exchange;
    if (signal === undefined) return;
    this.#unlink = onAbort(signal, (reason) => {
      if (this.over) return;
      exchange.reset("canceled");
      this.onError(ConnectError.from(reason, Code.Canceled));
    });
  }

  /** Waits until more may be written, or nothing more is wanted. */
  drained(): Promise<void> {
    return new Promise((resolve) => (this.#drained = resolve));
  }

  fail(error: unknown): void {
    if (this.over) return;
    this.#exchange?.reset("error");
    this.onError(ConnectError.from(error));
  }

  onHead(status: number, header: Headers): void {
    this.#head.resolve({ status, header, body: this.#body(), trailer: this.#trailer });
  }

  onChunk(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
  }

  onEnd(trailer: Headers): void {
    for (const [name, value] of trailer) this.#trailer.append(name, value);
    this.#chunks.end();
    this.#end();
  }

  onError(error: ConnectError): void {
    if (this.over) return;
    this.#chunks.fail(error);
    this.#head.reject(error);
    this.#end();
  }

  onDrain(): void {
    this.#drained();
  }

  #end(): void {
    this.#over = true;
    this.#unlink();
    this.#drained();
  }

  async *#body(): AsyncGenerator<Uint8Array> {
    try {
      yield* this.#chunks.read();
    } finally {
      if (!this.over) this.#exchange?.reset("canceled");
    }
  }
}
