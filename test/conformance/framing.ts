/** How the suite talks to the programs under test: each message behind its size, four bytes, big-endian. */
import type { Readable, Writable } from "node:stream";

const prefixBytes = 4;

/** The messages of a stream, until it ends. */
export async function* readFrames(input: Readable): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of input as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= prefixBytes) {
      const end = prefixBytes + rest.readUInt32BE(0);
      if (rest.length < end) break;
      yield rest.subarray(prefixBytes, end);
      rest = rest.subarray(end);
    }
  }
  if (rest.length > 0) throw new Error(`the input ended within a message: ${rest.length} bytes are left`);
}

/** One write for prefix and message, so that those of parallel calls do not mix. */
export function writeFrame(output: Writable, message: Uint8Array): void {
  const frame = Buffer.alloc(prefixBytes + message.byteLength);
  frame.writeUInt32BE(message.byteLength, 0);
  frame.set(message, prefixBytes);
  output.write(frame);
}
