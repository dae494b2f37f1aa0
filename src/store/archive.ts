/**
 * The form of a backup, version 1: one file that is written and read from its
 * beginning to its end, so that it can go through a pipe. Numbers are
 * big-endian.
 *
 *     the line "sluice backup 1\n"
 *     then frames:
 *       u32  length of what follows the checksum
 *       u32  CRC-32 of it
 *       u8   kind, a letter
 *       what the kind has
 *
 *     H  JSON: an ArchiveHead, first
 *     S  JSON: a stream's row
 *     B  u64 stream id, u64 first seq, the batch as it is stored
 *     P  JSON: { streamId, id, row, positions }
 *     E  JSON: the Totals, last; without it the file was cut off
 */
import { crc32 } from "node:zlib";
import { DomainError } from "../errors.ts";
import type { StreamRow } from "./lmdb-env.ts";
import type { Entry } from "./lmdb-snapshot.ts";

const magic = Buffer.from("sluice backup 1\n");
const frameHead = 4 + 4;
const batchHead = 1 + 8 + 8;
/** More than any frame has: a batch is stored in one value of LMDB's, of 2 GiB at most. */
const maxFrame = 2 ** 31;

/** What stands at the beginning of a backup. */
export interface ArchiveHead {
  /** Of the Sluice that made it. */
  readonly version: string;
  /** Of the directory that it was made of. */
  readonly format: number;
  /** When, in ISO 8601. */
  readonly time: string;
  /** Bytes that are to come, about. */
  readonly aboutBytes: number;
}

/** What is in a backup, or in a store. */
export interface Totals {
  readonly streams: number;
  readonly batches: number;
  readonly records: number;
  /** Of the stored batches, in bytes. */
  readonly bytes: number;
  /** Batches that are not as they were stored. */
  readonly damaged: number;
}

export type ArchiveEntry =
  Entry | { readonly kind: "head"; readonly head: ArchiveHead } | { readonly kind: "end"; readonly totals: Totals };

/** The bytes of one entry; those of the head begin the file. */
export function encodeEntry(entry: ArchiveEntry): Buffer {
  switch (entry.kind) {
    case "head":
      return Buffer.concat([magic, frame("H", json(entry.head))]);
    case "stream":
      return frame("S", json(rowToJson(entry.row)));
    case "batch": {
      const place = Buffer.alloc(8 + 8);
      place.writeBigUInt64BE(BigInt(entry.key[0]), 0);
      place.writeBigUInt64BE(BigInt(entry.key[1]), 8);
      return frame("B", place, entry.value);
    }
    case "producer": {
      const { streamId, id, row, positions } = entry;
      return frame("P", json({ streamId, id, row, positions }));
    }
    case "end":
      return frame("E", json(entry.totals));
  }
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function frame(kind: string, ...parts: readonly Buffer[]): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(frameHead), Buffer.from(kind), ...parts]);
  bytes.writeUInt32BE(bytes.length - frameHead, 0);
  bytes.writeUInt32BE(crc32(bytes.subarray(frameHead)), 4);
  return bytes;
}

/** Reads the entries of a backup, each checked. Throws "archive-damaged" if it is no whole backup. */
export async function* decodeArchive(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<ArchiveEntry> {
  const input = new ByteReader(chunks);
  const begin = await input.take(magic.length);
  if (begin === undefined || !begin.equals(magic)) throw damaged("it does not begin as one that this version reads");
  let isFirst = true;
  for (;;) {
    const head = await input.take(frameHead);
    if (head === undefined) throw damaged("it is cut off");
    const length = head.readUInt32BE(0);
    if (length === 0 || length > maxFrame) throw damaged(`at byte ${input.position} there is no entry`);
    const body = await input.take(length);
    if (body === undefined) throw damaged("it is cut off");
    if (crc32(body) !== head.readUInt32BE(4)) {
      throw damaged(`the entry in front of byte ${input.position} is not as it was written`);
    }
    const entry = decodeEntry(body);
    if ((entry.kind === "head") !== isFirst) throw damaged("its head is not at its beginning");
    isFirst = false;
    yield entry;
    if (entry.kind !== "end") continue;
    if ((await input.take(1)) !== undefined) throw damaged("it goes on behind its end");
    return;
  }
}

function decodeEntry(body: Buffer): ArchiveEntry {
  const value = (): never => JSON.parse(body.toString("utf8", 1)) as never;
  switch (body.toString("latin1", 0, 1)) {
    case "H":
      return { kind: "head", head: value() };
    case "S":
      return { kind: "stream", row: rowFromJson(value()) };
    case "B": {
      if (body.length < batchHead) throw damaged("a batch has no place");
      const key = [Number(body.readBigUInt64BE(1)), Number(body.readBigUInt64BE(9))] as const;
      return { kind: "batch", key, value: body.subarray(batchHead) };
    }
    case "P":
      return { kind: "producer", ...(value() as Omit<Extract<Entry, { kind: "producer" }>, "kind">) };
    case "E":
      return { kind: "end", totals: value() };
    default:
      throw damaged("it has an entry that this version does not know");
  }
}

/** A row whose checksum is text. */
type JsonRow = Omit<StreamRow, "info"> & {
  readonly info: Omit<StreamRow["info"], "checksum"> & {
    readonly checksum?: { readonly sha256: string; readonly firstSeq: number };
  };
};

function rowToJson(row: StreamRow): JsonRow {
  const { checksum, ...info } = row.info;
  if (checksum === undefined) return { ...row, info };
  const sha256 = Buffer.from(checksum.sha256).toString("hex");
  return { ...row, info: { ...info, checksum: { ...checksum, sha256 } } };
}

function rowFromJson(row: JsonRow): StreamRow {
  const { checksum, ...info } = row.info;
  if (checksum === undefined) return { ...row, info };
  return { ...row, info: { ...info, checksum: { ...checksum, sha256: Buffer.from(checksum.sha256, "hex") } } };
}

function damaged(detail: string): DomainError {
  return new DomainError({ kind: "archive-damaged", detail });
}

/** Takes exact numbers of bytes from chunks of any size. */
class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Buffer = Buffer.alloc(0);
  #position = 0;

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** Bytes taken so far. */
  get position(): number {
    return this.#position;
  }

  /** The next bytes, in memory of their own; undefined if there are not as many left. */
  async take(length: number): Promise<Buffer | undefined> {
    const parts: Buffer[] = [];
    let missing = length;
    while (missing > 0) {
      if (this.#rest.length === 0) {
        const next = await this.#chunks.next();
        if (next.done === true) return undefined;
        const { buffer, byteOffset, byteLength } = next.value;
        this.#rest = Buffer.from(buffer, byteOffset, byteLength);
        continue;
      }
      const part = this.#rest.subarray(0, missing);
      this.#rest = this.#rest.subarray(part.length);
      parts.push(part);
      missing -= part.length;
    }
    this.#position += length;
    return Buffer.concat(parts);
  }
}
