import type { Turns } from "./message-writer.ts";

/** Node's event loop. */
export const turns: Turns = {
  defer: (run) => {
    process.nextTick(run);
  },
  next: (run) => {
    setImmediate(run);
  },
};

/** Memory as it comes, with what was in it before: only for what is written before it is read. */
export function allocateUncleared(size: number): Uint8Array<ArrayBuffer> {
  // Not of Buffer's pool, whose memory is shared with others and would be kept by the smallest piece.
  return new Uint8Array(Buffer.allocUnsafeSlow(size).buffer);
}
