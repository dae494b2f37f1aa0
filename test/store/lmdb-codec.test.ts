import fc from "fast-check";
import { expect, it } from "vitest";
import { decodeBatch, decodeHead, encodeBatch } from "../../src/store/lmdb-codec.ts";
import { recordSize } from "../../src/store/store.ts";

const record = fc.record({
  data: fc.uint8Array({ maxLength: 50 }),
  headers: fc.dictionary(fc.string({ maxLength: 5, unit: "grapheme" }), fc.string({ maxLength: 5, unit: "grapheme" }), {
    maxKeys: 3,
  }),
});
const batch = fc.array(record, { maxLength: 5 });
const time = fc.integer({ min: 0, max: 2 ** 45 });

it("decodes what it encodes", () => {
  fc.assert(
    fc.property(time, batch, (timeMs, records) => {
      const bytes = encodeBatch(timeMs, records);
      const decoded = decodeBatch(7, bytes);
      expect(decoded).toMatchObject({ firstSeq: 7, timeMs });
      expect(decoded.records.map(({ data }) => [...data])).toEqual(records.map(({ data }) => [...data]));
      expect(decoded.records.map(({ headers }) => ({ ...headers }))).toEqual(
        records.map(({ headers }) => ({ ...headers })),
      );
      const size = records.reduce((sum, one) => sum + recordSize(one), 0);
      expect(decodeHead(bytes)).toEqual({ timeMs, size, count: records.length });
    }),
  );
});

it("refuses what is cut off or too long, and never reads beyond it", () => {
  fc.assert(
    fc.property(batch, fc.nat(), (records, cut) => {
      const bytes = encodeBatch(1, records);
      expect(() => decodeBatch(0, bytes.subarray(0, cut % bytes.length))).toThrow();
      expect(() => decodeBatch(0, Buffer.concat([bytes, Buffer.alloc(1)]))).toThrow(/too long/);
    }),
  );
});
