import { OutgoingMessage } from "node:http";
import type { Writable } from "node:stream";
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

/**
 * Writes the pieces as one; false if the stream asks for a pause. Calls `sent`
 * when their memory may be written again.
 */
export function writePieces(
  stream: Writable | OutgoingMessage,
  pieces: readonly Uint8Array[],
  sent: (() => void) | undefined,
): boolean {
  const last = pieces.length - 1;
  // After a failure the memory may still be in a queue below.
  const done = (error?: Error | null): void => {
    if (error == null) sent?.();
  };
  if (last === 0) return stream.write(pieces[0], done);
  // A message of HTTP/1.1 that is corked counts what it holds back as refused, and then never says "drain".
  // It holds its writes together for a tick by itself.
  const corked = stream instanceof OutgoingMessage ? undefined : stream;
  corked?.cork();
  let open = true;
  for (const [i, piece] of pieces.entries()) open = i === last ? stream.write(piece, done) : stream.write(piece);
  corked?.uncork();
  return open;
}
