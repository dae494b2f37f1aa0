import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const MiB = 1024 * 1024;

/** Just below the largest message that is read. */
const large = 4 * MiB - 1024;

function repeated(bytes: readonly number[], length: number): Buffer {
  return Buffer.alloc(length - (length % bytes.length), Buffer.from(bytes));
}

/** A field with so many bytes. */
function field(tag: number, bytes: Buffer): Buffer {
  const head: number[] = [tag];
  let length = bytes.byteLength;
  for (; length > 0x7f; length >>>= 7) head.push((length & 0x7f) | 0x80);
  head.push(length);
  return Buffer.concat([Buffer.from(head), bytes]);
}

/** Messages that cost more than they look. */
export const binaryPayloads: Readonly<Record<string, Buffer>> = {
  "unknown fields": repeated([0x7a, 0], large),
  "some unknown fields": repeated([0x7a, 0], 240_000),
  "few unknown fields": repeated([0x7a, 0], 60_000),
  "empty records": repeated([0x12, 0], large),
  "some empty records": repeated([0x12, 0], 200_000),
  "many map entries": field(0x12, repeated([0x0a, 3, 0x0a, 1, 65], 180_000)),
  "a long string": field(0x0a, Buffer.alloc(large - 16, "x")),
  "long text": field(0x0a, Buffer.alloc(60_000, "x")),
  "a long record": field(0x12, field(0x12, Buffer.alloc(large - 64))),
  "deep groups": repeated([0x7b], large),
  zeros: Buffer.alloc(large),
};

export const jsonPayloads: Readonly<Record<string, Buffer>> = {
  objects: Buffer.from(`{"x":[${"{},".repeat(MiB)}{}]}`),
  "some objects": Buffer.from(`{"records":[${"{},".repeat(100_000)}{}]}`),
  keys: Buffer.from(`{${Array.from({ length: 90_000 }, (_, i) => `"k${i}":1`).join()}}`),
  "deep arrays": Buffer.from("[".repeat(large)),
  "a long string": Buffer.from(`{"name":"${"x".repeat(large - 64)}"}`),
  "escaped text": Buffer.from(`{"name":"${"\\u20ac".repeat(600_000)}"}`),
};

export type Encoding = "gzip" | "br" | undefined;

const known = new Map<string, Buffer>();

/** Compressed once: an attacker would not do it again for each call. */
export function encoded(name: string, payload: Buffer, encoding: Encoding): Buffer {
  if (encoding === undefined) return payload;
  const key = `${encoding} ${name} ${payload.byteLength}`;
  const found = known.get(key);
  if (found !== undefined) return found;
  const params = { [constants.BROTLI_PARAM_QUALITY]: 1 };
  const made = encoding === "gzip" ? gzipSync(payload, { level: 1 }) : brotliCompressSync(payload, { params });
  known.set(key, made);
  return made;
}
