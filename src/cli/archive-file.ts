import { open } from "node:fs/promises";
import { addAbortSignal } from "node:stream";
import type { ArchiveInput } from "../store/backup.ts";
import { fileError } from "./failure.ts";
import { openStdin } from "./stdin.ts";

/** Opens a backup to be read; `-` is standard input. */
export async function openArchive(path: string, signal: AbortSignal): Promise<ArchiveInput> {
  if (path === "-")
    return { chunks: readable("standard input", addAbortSignal(signal, openStdin()), signal), size: undefined };
  try {
    const file = await open(path, "r");
    const { size } = await file.stat();
    return { chunks: readable(path, file.createReadStream({ signal, highWaterMark: 256 * 1024 }), signal), size };
  } catch (error) {
    throw fileError(path, "read", error);
  }
}

async function* readable(
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  try {
    yield* chunks;
  } catch (error) {
    signal.throwIfAborted();
    throw fileError(path, "read", error);
  }
}
