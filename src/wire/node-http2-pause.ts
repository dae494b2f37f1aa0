import type { Http2Stream } from "node:http2";
import { BodyCollector } from "./body-collector.ts";
import { allocateUncleared } from "./node-platform.ts";

/**
 * Pauses a stream of node:http2. Its peer may go on sending until the stream's
 * window is used up, in DATA frames of one byte each if it likes, and Node would
 * keep a Buffer for each frame, of a hundred times its size: they are joined
 * instead.
 */
export class PausedStream {
  readonly #stream: Http2Stream;
  #joined: BodyCollector | undefined;

  constructor(stream: Http2Stream) {
    this.#stream = stream;
    stream.pause();
    // What node:http2 hands each frame to, and the end of the body as null.
    stream.push = (chunk: Uint8Array | null): boolean => {
      if (chunk === null) {
        this.#restore();
        return stream.push(null);
      }
      this.#joined ??= new BodyCollector(allocateUncleared);
      this.#joined.add(chunk);
      return false;
    };
  }

  /** Hands on what has arrived, and goes on reading. */
  resume(): void {
    this.#restore();
    this.#stream.resume();
  }

  #restore(): void {
    const stream = this.#stream;
    // Uncovers that of its class.
    Reflect.deleteProperty(stream, "push");
    const joined = this.#joined;
    this.#joined = undefined;
    if (joined !== undefined && !stream.destroyed) stream.push(joined.bytes);
  }
}
