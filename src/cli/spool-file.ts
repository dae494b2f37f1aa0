import { randomUUID } from "node:crypto";
import { open, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { privateModes } from "../file-modes.ts";
import { CliError, lacksSpace } from "./failure.ts";
import { encodeEntry, magic } from "./spool-format.ts";
import type { SpoolReader } from "./spool-reader.ts";
import { writeAll } from "./write-all.ts";

/** What a spool file says. */
export interface SpoolContent {
  readonly producerId: string;
  /** The producer's number of the first batch of the file; below 0 if a later producer has taken over. */
  readonly baseSeq: number;
  /** How many batches of the file are stored. */
  readonly stored: number;
  /** How many batches and lines are not, and where the first of them may begin. */
  readonly batches: number;
  readonly lines: number;
  readonly readAt: number;
  /** Where the next entry is written. */
  readonly end: number;
}

/** Begins the file anew, for batches from `nextSeq` on. */
export async function beginSpool(
  file: FileHandle,
  stream: string,
  producerId: string = randomUUID(),
  nextSeq = 0,
): Promise<SpoolContent> {
  const head = Buffer.concat([magic, encodeEntry({ kind: "header", stream, producerId, nextSeq })]);
  // A crash in between leaves an empty file: then nothing was waiting in it, and another producer begins.
  await file.truncate(0);
  await writeAll(file, head, 0);
  return { producerId, baseSeq: nextSeq, stored: 0, batches: 0, lines: 0, readAt: head.length, end: head.length };
}

/**
 * Reads the whole file. What is damaged, or was cut short by a crash, is moved to `FILE.damaged-…` with all behind it;
 * `onNote` is told.
 */
export async function readSpool(
  file: FileHandle,
  reader: SpoolReader,
  { path, stream, onNote }: { path: string; stream: string; onNote: (message: string) => void },
): Promise<SpoolContent> {
  const { size } = await file.stat();
  const found = Buffer.alloc(magic.length);
  const { bytesRead } = await file.read(found, 0, found.length, 0);
  if (!found.subarray(0, bytesRead).equals(magic.subarray(0, bytesRead))) {
    throw new CliError("conflict", `${path} is no spool file: give the name of a new one`);
  }
  const first = await reader.at(magic.length);
  // It is new, or its process was killed while it began anew.
  if (first.kind === "short") return beginSpool(file, stream);
  if (first.kind !== "entry" || first.entry.kind !== "header") {
    throw new CliError("conflict", `the beginning of the spool file ${path} is damaged: move it away`);
  }
  const header = first.entry;
  let { producerId, nextSeq: baseSeq } = header;
  let stored = 0;
  /** Lines of the batches that are not known to be stored, oldest first, and where each batch begins. */
  const counts: { lines: number; offset: number }[] = [];
  let taken = 0;
  let lines = 0;
  let offset = magic.length + first.size;
  for (;;) {
    const next = await reader.at(offset);
    if (next.kind !== "entry") break;
    const { entry } = next;
    if (entry.kind === "lines") {
      counts.push({ lines: entry.lines.length, offset });
      lines += entry.lines.length;
    } else if (entry.kind === "acked") {
      for (; stored < entry.batches && taken < counts.length; stored++) lines -= counts[taken++]?.lines ?? 0;
      // Those that are stored would take memory for nothing.
      if (taken > 1024) taken -= counts.splice(0, taken).length;
    } else if (entry.kind === "producer") {
      producerId = entry.producerId;
      baseSeq = -stored;
    }
    offset += next.size;
  }
  if (offset < size) await cutDamage(file, path, offset, size, onNote);
  const readAt = counts[taken]?.offset ?? offset;
  const batches = counts.length - taken;
  if (header.stream !== stream) {
    if (batches === 0) return beginSpool(file, stream);
    throw new CliError(
      "conflict",
      `${path} holds lines for stream "${header.stream}": push them first, or give another file`,
    );
  }
  return { producerId, baseSeq, stored, batches, lines, readAt, end: offset };
}

async function cutDamage(
  file: FileHandle,
  path: string,
  from: number,
  size: number,
  onNote: (message: string) => void,
): Promise<void> {
  const kept = `${path}.damaged-${randomUUID().slice(0, 8)}`;
  let where = `they are in ${kept}`;
  try {
    await copyTo(kept, file, from, size);
  } catch (error) {
    // Sending what waits is what makes room. A batch that was cut short was never sent.
    if (!lacksSpace(error)) throw error;
    await rm(kept, { force: true });
    where = "there is no space on the disk to keep them";
  }
  await file.truncate(from);
  onNote(`the last ${size - from} bytes of ${path} are damaged, as after a crash: ${where}`);
}

async function copyTo(path: string, file: FileHandle, from: number, size: number): Promise<void> {
  const copy = await open(path, "wx", privateModes.file);
  try {
    const buffer = Buffer.alloc(1024 * 1024);
    for (let at = from; at < size;) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, size - at), at);
      if (bytesRead === 0) break;
      await writeAll(copy, buffer.subarray(0, bytesRead), at - from);
      at += bytesRead;
    }
    await copy.sync();
  } finally {
    await copy.close();
  }
}
