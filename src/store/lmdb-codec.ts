/**
 * The stored form of a batch, version 2. Numbers are big-endian.
 *
 *     u8   version = 2
 *     u32  CRC-32 of all that follows, begun with a number made of the key (see `seedOf`)
 *     f64  time, milliseconds since the Unix epoch
 *     f64  arrival: what the clock said then, where the time never goes backwards
 *     the content:
 *       u32  size of the records as `recordSize` counts it
 *       u32  number of records
 *       then for each record:
 *         u32  length of the data
 *         u32  number of headers
 *         the data
 *         then for each header: u32 length, key, u32 length, value (UTF-8)
 *
 * Version 1, which formats 1 to 3 of the directory have, is the version, the
 * time, and the content: it has no checksum, and is read as it is.
 */
import { crc32 } from "node:zlib";
import { setOwn } from "../own-property.ts";
import { recordSize } from "./store.ts";
import type { StoredBatch, StoredRecord } from "./store.ts";

const version = 2;
/** Where the parts of a head begin. */
const at = { checksum: 1, checked: 5, time: 5, arrival: 13, content: 21 } as const;
/** The same for version 1. */
const oldAt = { time: 1, content: 9 } as const;
/** The size and the number of records, which the content begins with. */
const countsSize = 4 + 4;

/** Where a batch is stored: the id of its stream and its first seq. */
export type BatchKey = readonly [id: number, firstSeq: number];

/** When a batch was stored, in milliseconds since the Unix epoch. */
export interface BatchTimes {
  /** Never before that of the batch in front of it. */
  readonly timeMs: number;
  /** What the clock said: before `timeMs` if the clock had been ahead. */
  readonly arrivalMs: number;
}

/** What a batch says about itself before its records. */
export interface BatchHead extends BatchTimes {
  /** Of the records, in bytes. */
  readonly size: number;
  /** Of the records. */
  readonly count: number;
}

/** The bytes of a batch are not those that were stored. */
export class DamagedBatch extends Error {
  constructor([id, firstSeq]: BatchKey, detail: string) {
    super(`the batch at seq ${firstSeq} of the stream with id ${id} ${detail}`);
    this.name = "DamagedBatch";
  }
}

export function encodeBatch(
  key: BatchKey,
  { timeMs, arrivalMs }: BatchTimes,
  records: readonly StoredRecord[],
): Buffer {
  const bytes = encodeBehind(at.content, records);
  bytes.writeUInt8(version, 0);
  bytes.writeDoubleBE(timeMs, at.time);
  bytes.writeDoubleBE(arrivalMs, at.arrival);
  bytes.writeUInt32BE(checksumOf(key, bytes), at.checksum);
  return bytes;
}

/** The records as a stored batch has them, with what a producer's repeat of it has too. */
export function encodeContent(records: readonly StoredRecord[]): Buffer {
  return encodeBehind(0, records);
}

/** The same of a batch of today's version. */
export function contentOf(bytes: Buffer): Buffer {
  return bytes.subarray(at.content);
}

/** Whether the batch was stored with a checksum: those of the formats before 4 were not. */
export function hasChecksum(bytes: Buffer): boolean {
  return bytes[0] === version;
}

function encodeBehind(headSize: number, records: readonly StoredRecord[]): Buffer {
  let size = 0;
  let length = headSize + countsSize;
  for (const record of records) {
    size += recordSize(record);
    length += 8 + 8 * Object.keys(record.headers).length;
  }
  const bytes = Buffer.allocUnsafe(length + size);
  let next = bytes.writeUInt32BE(size, headSize);
  next = bytes.writeUInt32BE(records.length, next);
  for (const { data, headers } of records) {
    const entries = Object.entries(headers);
    next = bytes.writeUInt32BE(data.byteLength, next);
    next = bytes.writeUInt32BE(entries.length, next);
    bytes.set(data, next);
    next += data.byteLength;
    for (const text of entries.flat()) {
      const written = bytes.write(text, next + 4, "utf8");
      bytes.writeUInt32BE(written, next);
      next += 4 + written;
    }
  }
  return bytes;
}

/** Differs for keys that differ in one bit, so that a batch is noticed under another's key. */
function seedOf([id, firstSeq]: BatchKey): number {
  return (Math.imul(id, 0x9e3779b1) ^ highBits(id) ^ firstSeq ^ highBits(firstSeq)) >>> 0;
}

function highBits(value: number): number {
  return Math.floor(value / 2 ** 32);
}

function checksumOf(key: BatchKey, bytes: Buffer): number {
  return crc32(bytes.subarray(at.checked), seedOf(key));
}

/** Where the content begins. Throws `DamagedBatch` if the batch is not as it was stored. */
function checkBatch(key: BatchKey, bytes: Buffer): number {
  const { length } = bytes;
  if (!Number.isSafeInteger(key[1])) throw new DamagedBatch(key, "has no whole number as its key");
  if (bytes[0] === 1 && length >= oldAt.content + countsSize) return oldAt.content;
  if (bytes[0] !== version || length < at.content + countsSize) {
    throw new DamagedBatch(key, `has ${length} bytes without a valid head`);
  }
  if (bytes.readUInt32BE(at.checksum) !== checksumOf(key, bytes)) {
    throw new DamagedBatch(key, "has another checksum than when it was stored");
  }
  return at.content;
}

function headAt(content: number, bytes: Buffer): BatchHead {
  const timeMs = bytes.readDoubleBE(content === at.content ? at.time : oldAt.time);
  const arrivalMs = content === at.content ? bytes.readDoubleBE(at.arrival) : timeMs;
  return { timeMs, arrivalMs, size: bytes.readUInt32BE(content), count: bytes.readUInt32BE(content + 4) };
}

/** The head of a stored batch, without its records. Throws `DamagedBatch` if the batch is not as it was stored. */
export function decodeHead(key: BatchKey, bytes: Buffer): BatchHead {
  return headAt(checkBatch(key, bytes), bytes);
}

/** The size of the records of a damaged batch, as far as it can be told. */
export function likelySize(bytes: Buffer): number {
  const content = bytes[0] === 1 ? oldAt.content : at.content;
  const most = Math.max(0, bytes.byteLength - content - countsSize);
  return most === 0 ? 0 : Math.min(most, bytes.readUInt32BE(content));
}

/**
 * The batch. Its records' data are parts of `bytes`, which must not be changed afterwards. Throws `DamagedBatch` if it is
 * not as it was stored.
 */
export function decodeBatch(key: BatchKey, bytes: Buffer): StoredBatch {
  return decodeAt(checkBatch(key, bytes), key, bytes);
}

/** As `decodeBatch`, of bytes that this process has just encoded. */
export function decodeEncoded(key: BatchKey, bytes: Buffer): StoredBatch {
  return decodeAt(at.content, key, bytes);
}

function decodeAt(content: number, key: BatchKey, bytes: Buffer): StoredBatch {
  const { timeMs, count } = headAt(content, bytes);
  const records: StoredRecord[] = [];
  let next = content + countsSize;
  const take = (length: number): Buffer => {
    const end = next + length;
    if (end > bytes.byteLength) throw new DamagedBatch(key, "is cut off");
    const part = bytes.subarray(next, end);
    next = end;
    return part;
  };
  const takeLength = (): number => take(4).readUInt32BE(0);
  for (let i = 0; i < count; i++) {
    const dataLength = takeLength();
    const headerCount = takeLength();
    const data = take(dataLength);
    const headers: Record<string, string> = {};
    for (let j = 0; j < headerCount; j++) {
      const name = take(takeLength()).toString("utf8");
      setOwn(headers, name, take(takeLength()).toString("utf8"));
    }
    records.push({ data, headers });
  }
  if (next !== bytes.byteLength) throw new DamagedBatch(key, "is too long");
  return { firstSeq: key[1], timeMs, records };
}
