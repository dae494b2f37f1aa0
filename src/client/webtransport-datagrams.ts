/** Datagrams of a session: messages that may get lost, arrive in another order, and are never sent again. */
export class Datagrams {
  readonly #stream: WebTransportDatagramDuplexStream;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  #reading = false;
  #listener = (_bytes: Uint8Array): void => undefined;

  constructor(stream: WebTransportDatagramDuplexStream) {
    this.#stream = stream;
    // A newer draft of the API has replaced the property by a method.
    const newer = stream as unknown as { createWritable?: () => WritableStream<Uint8Array> };
    const writable = newer.createWritable?.() ?? (stream as { writable: WritableStream<Uint8Array> }).writable;
    this.#writer = writable.getWriter();
    this.#writer.closed.catch(() => undefined);
  }

  /** Bytes of the largest one that can be sent. */
  get maxSize(): number {
    return this.#stream.maxDatagramSize;
  }

  /** False if it is not sent, because it is too large or because the network does not keep up: a newer one may be. */
  send(bytes: Uint8Array): boolean {
    if (bytes.byteLength > this.maxSize || (this.#writer.desiredSize ?? 0) <= 0) return false;
    this.#writer.write(bytes).catch(() => undefined);
    return true;
  }

  /** Replaces the listener. */
  onReceive(listener: (bytes: Uint8Array) => void): void {
    this.#listener = listener;
    if (this.#reading) return;
    this.#reading = true;
    // The end of the session is told elsewhere.
    this.#read().catch(() => undefined);
  }

  async #read(): Promise<void> {
    const reader = (this.#stream.readable as ReadableStream<Uint8Array>).getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) this.#listener(next.value);
  }
}
