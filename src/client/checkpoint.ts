import type { ReadRecord } from "./records.ts";

/**
 * Where to go on in a stream, for a program to keep: in this very stream, at this seq. `read` takes it as `from`, and fails
 * with STREAM_REPLACED if the stream has been deleted and made again, or restored from a backup, since.
 */
export interface Checkpoint {
  /** Of the stream; empty if the server is too old to tell it: then nothing is checked. */
  readonly uid: string;
  readonly seq: bigint;
}

/** Where to go on behind a record that has been dealt with. */
export function checkpointAfter({ uid, seq }: Pick<ReadRecord, "uid" | "seq">): Checkpoint {
  return { uid, seq: seq + 1n };
}

/** A checkpoint as text, such as `mJ0c_4fTqA1b:42`. */
export function formatCheckpoint({ uid, seq }: Checkpoint): string {
  return `${uid}:${seq}`;
}

/** The checkpoint that `formatCheckpoint` made a text of. Throws a TypeError if it is none. */
export function parseCheckpoint(text: string): Checkpoint {
  const [, uid, seq] = /^([A-Za-z0-9_-]{0,64}):(\d{1,19})$/.exec(text) ?? [];
  if (uid === undefined || seq === undefined) {
    throw new TypeError(`a checkpoint is a uid, a colon and a seq, such as mJ0c_4fTqA1b:42, not "${text}"`);
  }
  return { uid, seq: BigInt(seq) };
}
