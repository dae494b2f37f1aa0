import { copyBytes } from "./copy-bytes.ts";

/** Gets bytes, chunk by chunk. */
export interface ChunkReceiver {
  onChunk(chunk: Uint8Array): void;
  /** Gets chunks whose memory is reused after the call; without this method, `onChunk` gets copies of them. */
  onLent?(chunk: Uint8Array): void;
}

/** Hands over bytes whose memory is going to be written again. */
export function lend(chunk: Uint8Array, receiver: ChunkReceiver | undefined): void {
  if (receiver?.onLent !== undefined) receiver.onLent(chunk);
  else receiver?.onChunk(copyBytes(chunk));
}
