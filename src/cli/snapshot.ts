import type { BigIntStats } from "node:fs";
import { mkdtemp, open, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeAll } from "./write-all.ts";

/** Files that report up to this size, in bytes, are read to check it: those in /proc report 0, those in /sys 4,096. */
const doubtfulBytes = 64n * 1024n;
const readBytes = 64 * 1024;

/**
 * Copies a file that reports a wrong size, such as one in /proc, to a temporary file that has been unlinked. Returns
 * undefined for other files. The caller closes both handles.
 */
export async function snapshotOf(
  file: FileHandle,
  stats: BigIntStats,
  signal: AbortSignal,
): Promise<FileHandle | undefined> {
  if (stats.size > doubtfulBytes) return undefined;
  const first = Buffer.alloc(Number(doubtfulBytes) + 1);
  let length = 0;
  for (let read = -1; read !== 0 && length < first.length; length += read) {
    read = (await file.read(first, length, first.length - length, length)).bytesRead;
  }
  if (BigInt(length) === stats.size) return undefined;
  const dir = await mkdtemp(join(tmpdir(), "sluice-push-"));
  try {
    const copy = await open(join(dir, "snapshot"), "wx+", 0o600);
    try {
      await writeAll(copy, first.subarray(0, length), 0);
      const chunk = Buffer.alloc(readBytes);
      for (let at = length, read = -1; read !== 0; at += read) {
        signal.throwIfAborted();
        read = (await file.read(chunk, 0, readBytes, at)).bytesRead;
        await writeAll(copy, chunk.subarray(0, read), at);
      }
      return copy;
    } catch (error) {
      await copy.close();
      throw error;
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
