import type { ActiveCall } from "./active-call.ts";
import type { HttpExchange } from "./exchange.ts";

/** Writes up to this length are not counted: each open call is charged for more than HTTP takes before it asks to wait. */
const uncountedBytes = 1024;

/** node:http's parser makes a buffer of each chunk, in the 64 KiB that it has read before it pauses. */
const http1PausedBytes = 1024 * 1024;

/** Bytes that the peer of an exchange may still send once it has been paused. */
export function pausedBytes(exchange: HttpExchange, streamWindow: number): number {
  return exchange.fullDuplex ? streamWindow : http1PausedBytes;
}

/** Writes the response of a call, and counts what its peer has not taken. */
export class CountedOutput {
  readonly #exchange: HttpExchange;
  readonly #call: ActiveCall;
  /** Bytes that HTTP has copied, and that the peer has not taken. */
  #copied = 0;

  constructor(exchange: HttpExchange, call: ActiveCall) {
    this.#exchange = exchange;
    this.#call = call;
  }

  /** As the exchange's `write`. Ends the call, and writes nothing, if there is no memory for the pieces. */
  write(pieces: readonly Uint8Array[], sent: () => void = ignore): boolean {
    const exchange = this.#exchange;
    const call = this.#call;
    let bytes = 0;
    for (const { byteLength } of pieces) bytes += byteLength;
    call.bytesOut += bytes;
    call.touch();
    if (bytes <= uncountedBytes) return exchange.write(pieces, sent);
    if (!call.memory.charge(bytes)) {
      call.memory.exhausted();
      sent();
      return false;
    }
    if (exchange.copiesWrites) {
      const open = exchange.write(pieces, sent);
      if (open) call.memory.release(bytes);
      else this.#copied += bytes;
      return open;
    }
    return exchange.write(pieces, () => {
      call.memory.release(bytes);
      sent();
    });
  }

  /** The peer keeps up again. */
  drained(): void {
    this.#call.memory.release(this.#copied);
    this.#copied = 0;
  }
}

function ignore(): void {
  // Nobody writes to the memory again.
}
