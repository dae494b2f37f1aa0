import type { FileHandle } from "node:fs/promises";

/** Writes all of the data at the position; one write may take less. */
export async function writeAll(file: FileHandle, data: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < data.byteLength;) {
    done += (await file.write(data, done, data.byteLength - done, position + done)).bytesWritten;
  }
}
