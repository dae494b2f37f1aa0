/**
 * The stored form of a batch, version 1. Numbers are big-endian.
 *
 *     u8   version = 1
 *     f64  time, milliseconds since the Unix epoch
 *     u32  size of the records as `recordSize` counts it
 *     u32  number of records
 *     then for each record:
 *       u32  length of the data
 *       u32  number of headers
 *       the data
 *       then for each header: u32 length, key, u32 length, value (UTF-8)
 */
import { setOwn } from "../own-property.ts";
import { recordSize } from "./store.ts";
import type { StoredBatch, StoredRecord } from "./store.ts";

const version = 1;
const headSize = 1 + 8 + 4 + 4;

export function encodeBatch(timeMs: number, records: readonly StoredRecord[]): Buffer {
  let size = 0;
  let length = headSize;
  for (const record of records) {
    size += recordSize(record);
    length += 8 + 8 * Object.keys(record.headers).length;
  }
  const bytes = Buffer.allocUnsafe(length + size);
  bytes.writeUInt8(version, 0);
  bytes.writeDoubleBE(timeMs, 1);
  bytes.writeUInt32BE(size, 9);
  bytes.writeUInt32BE(records.length, 13);
  let at = headSize;
  for (const { data, headers } of records) {
    const entries = Object.entries(headers);
    at = bytes.writeUInt32BE(data.byteLength, at);
    at = bytes.writeUInt32BE(entries.length, at);
    bytes.set(data, at);
    at += data.byteLength;
    for (const text of entries.flat()) {
      const written = bytes.write(text, at + 4, "utf8");
      bytes.writeUInt32BE(written, at);
      at += 4 + written;
    }
  }
  return bytes;
}

/** The part of a stored batch that a producer's repeat of it has too: all but the version and the time. */
export function contentOf(bytes: Buffer): Buffer {
  return bytes.subarray(1 + 8);
}

/** The head of a stored batch, without its records. */
export function decodeHead(bytes: Buffer): { timeMs: number; size: number; count: number } {
  if (bytes.byteLength < headSize || bytes.readUInt8(0) !== version) {
    throw new Error(`a stored batch of ${bytes.byteLength} bytes has no valid head`);
  }
  return { timeMs: bytes.readDoubleBE(1), size: bytes.readUInt32BE(9), count: bytes.readUInt32BE(13) };
}

/** The batch. Its records' data are parts of `bytes`, which must not be changed afterwards. */
export function decodeBatch(firstSeq: number, bytes: Buffer): StoredBatch {
  const { timeMs, count } = decodeHead(bytes);
  const records: StoredRecord[] = [];
  let at = headSize;
  const take = (length: number): Buffer => {
    const end = at + length;
    if (end > bytes.byteLength) throw new Error(`the stored batch at seq ${firstSeq} is cut off`);
    const part = bytes.subarray(at, end);
    at = end;
    return part;
  };
  const takeLength = (): number => take(4).readUInt32BE(0);
  for (let i = 0; i < count; i++) {
    const dataLength = takeLength();
    const headerCount = takeLength();
    const data = take(dataLength);
    const headers: Record<string, string> = {};
    for (let j = 0; j < headerCount; j++) {
      const key = take(takeLength()).toString("utf8");
      setOwn(headers, key, take(takeLength()).toString("utf8"));
    }
    records.push({ data, headers });
  }
  if (at !== bytes.byteLength) throw new Error(`the stored batch at seq ${firstSeq} is too long`);
  return { firstSeq, timeMs, records };
}
