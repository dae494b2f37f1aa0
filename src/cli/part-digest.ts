import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";

const readBytes = 1024 * 1024;

/** How records stand in a file: each one's length, and how many bytes follow it that are not its data. */
export interface RecordLayout {
  readonly lengths: AsyncIterable<number>;
  readonly separatorBytes: number;
}

/** SHA-256 of the first `size` bytes of the file; with a layout, of its records' data alone. */
export async function digestOfFile(
  file: FileHandle,
  size: number,
  layout: RecordLayout | undefined,
  signal: AbortSignal,
): Promise<Buffer> {
  const hash = createHash("sha256");
  const lengths = layout?.lengths[Symbol.asyncIterator]();
  /** What is left of the current record's data, and of what follows it. */
  let data = layout === undefined ? size : 0;
  let separator = 0;
  for await (const chunk of chunksOf(file, size, signal)) {
    for (let at = 0; at < chunk.length;) {
      if (data === 0 && separator === 0) {
        const next = await lengths?.next();
        data = next?.done === false ? next.value : 0;
        separator = layout?.separatorBytes ?? 0;
      }
      const taken = Math.min(data, chunk.length - at);
      hash.update(chunk.subarray(at, at + taken));
      const dropped = Math.min(separator, chunk.length - at - taken);
      data -= taken;
      separator -= dropped;
      at += taken + dropped;
    }
  }
  return hash.digest();
}

async function* chunksOf(file: FileHandle, size: number, signal: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
  const buffer = Buffer.allocUnsafe(readBytes);
  for (let at = 0; at < size;) {
    signal.throwIfAborted();
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, size - at), at);
    if (bytesRead === 0) throw new Error("it was cut short while it was read");
    yield buffer.subarray(0, bytesRead);
    at += bytesRead;
  }
}
