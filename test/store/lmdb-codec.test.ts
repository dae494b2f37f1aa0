import fc from "fast-check";
import { expect, it } from "vitest";
import {
  DamagedBatch,
  contentOf,
  decodeBatch,
  decodeEncoded,
  decodeHead,
  encodeBatch,
  encodeContent,
} from "../../src/store/lmdb-codec.ts";
import { recordSize } from "../../src/store/store.ts";

const record = fc.record({
  data: fc.uint8Array({ maxLength: 50 }),
  headers: fc.dictionary(fc.string({ maxLength: 5, unit: "grapheme" }), fc.string({ maxLength: 5, unit: "grapheme" }), {
    maxKeys: 3,
  }),
});
const batch = fc.array(record, { maxLength: 5 });
const time = fc.integer({ min: 0, max: 2 ** 45 });

const key = fc.tuple(fc.integer({ min: 1, max: 2 ** 40 }), fc.integer({ min: 0, max: 2 ** 50 }));

it("decodes what it encodes", () => {
  fc.assert(
    fc.property(key, time, time, batch, (at, timeMs, arrivalMs, records) => {
      const bytes = encodeBatch(at, { timeMs, arrivalMs }, records);
      for (const decoded of [decodeBatch(at, bytes), decodeEncoded(at, bytes)]) {
        expect(decoded).toMatchObject({ firstSeq: at[1], timeMs });
        expect(decoded.records.map(({ data }) => [...data])).toEqual(records.map(({ data }) => [...data]));
        expect(decoded.records.map(({ headers }) => ({ ...headers }))).toEqual(
          records.map(({ headers }) => ({ ...headers })),
        );
      }
      const size = records.reduce((sum, one) => sum + recordSize(one), 0);
      expect(decodeHead(at, bytes)).toEqual({ timeMs, arrivalMs, size, count: records.length });
      expect(contentOf(bytes)).toEqual(encodeContent(records));
    }),
  );
});

it("refuses what is cut off or too long", () => {
  fc.assert(
    fc.property(batch, fc.nat(), (records, cut) => {
      const bytes = encodeBatch([1, 0], { timeMs: 1, arrivalMs: 1 }, records);
      for (const damaged of [bytes.subarray(0, cut % bytes.length), Buffer.concat([bytes, Buffer.alloc(1)])]) {
        expect(() => decodeBatch([1, 0], damaged)).toThrow(DamagedBatch);
        expect(() => decodeHead([1, 0], damaged)).toThrow(DamagedBatch);
      }
    }),
  );
});

it("refuses a batch of which any bit has flipped", () => {
  const records = [{ data: Buffer.from("some bytes"), headers: { kind: "text" } }];
  const bytes = encodeBatch([3, 70], { timeMs: 1e12, arrivalMs: 1e12 }, records);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = Buffer.from(bytes);
    flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    expect(() => decodeBatch([3, 70], flipped), `bit ${bit}`).toThrow(DamagedBatch);
  }
});

it("refuses a batch under a key that differs in a bit", () => {
  fc.assert(
    fc.property(key, fc.integer({ min: 0, max: 1 }), fc.integer({ min: 0, max: 39 }), (at, part, bit) => {
      const bytes = encodeBatch(at, { timeMs: 1, arrivalMs: 1 }, []);
      const other: [number, number] = [...at];
      const value = BigInt(at[part] ?? 0);
      other[part] = Number(value ^ (1n << BigInt(bit)));
      expect(() => decodeBatch(other, bytes)).toThrow(DamagedBatch);
    }),
  );
});
