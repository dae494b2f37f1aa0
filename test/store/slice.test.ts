import { describe, expect, it } from "vitest";
import { slice } from "../../src/store/slice.ts";
import { recordSize } from "../../src/store/store.ts";
import type { StoredBatch, StoredRecord } from "../../src/store/store.ts";

const recordOf = (text: string): StoredRecord => ({ data: Buffer.from(text), headers: {} });
const size = recordSize(recordOf("a"));
/** Records 10 to 12, 13 and 14 to 15. */
const stored: StoredBatch[] = [
  { firstSeq: 10, timeMs: 1, records: ["a", "b", "c"].map(recordOf) },
  { firstSeq: 13, timeMs: 2, records: ["d"].map(recordOf) },
  { firstSeq: 14, timeMs: 3, records: ["e", "f"].map(recordOf) },
];

/** Each record with its seq and its batch's time, the batches apart. */
function shown(fromSeq: number, limits: { maxRecords?: number; maxBytes?: number }): [string, number] {
  const { batches, nextSeq } = slice(stored, fromSeq, { maxRecords: 100, maxBytes: 1e6, ...limits });
  const texts = batches.map(({ firstSeq, timeMs, records }) =>
    records.map(({ data }, i) => `${firstSeq + i}@${timeMs} ${Buffer.from(data).toString()}`).join(", "),
  );
  return [texts.join(" | "), nextSeq];
}

const all = "10@1 a, 11@1 b, 12@1 c | 13@2 d | 14@3 e, 15@3 f";

describe("a slice of stored batches", () => {
  it.each<[what: string, fromSeq: number, limits: { maxRecords?: number; maxBytes?: number }, [string, number]]>([
    ["everything", 10, {}, [all, 16]],
    ["from before the first", 5, {}, [all, 16]],
    ["from within a batch", 11, {}, ["11@1 b, 12@1 c | 13@2 d | 14@3 e, 15@3 f", 16]],
    ["from behind the last", 16, {}, ["", 16]],
    ["up to within a batch", 10, { maxRecords: 2 }, ["10@1 a, 11@1 b", 12]],
    ["up to a batch's end", 10, { maxRecords: 3 }, ["10@1 a, 11@1 b, 12@1 c", 13]],
    ["across batches", 12, { maxRecords: 3 }, ["12@1 c | 13@2 d | 14@3 e", 15]],
    ["no records", 10, { maxRecords: 0 }, ["", 10]],
    ["as many bytes as fit", 10, { maxBytes: 2 * size }, ["10@1 a, 11@1 b", 12]],
    ["less than a record of bytes: one all the same", 10, { maxBytes: size - 1 }, ["10@1 a", 11]],
    ["a byte less than the next record takes", 10, { maxBytes: 4 * size - 1 }, ["10@1 a, 11@1 b, 12@1 c", 13]],
    ["bytes up to a batch's end", 10, { maxBytes: 3 * size }, ["10@1 a, 11@1 b, 12@1 c", 13]],
  ])("%s", (_, fromSeq, limits, expected) => {
    expect(shown(fromSeq, limits)).toEqual(expected);
  });

  it("is the stored batch itself if it is whole, and copies of the records if it is a part", () => {
    const { batches } = slice(stored, 11, { maxRecords: 3, maxBytes: 1e6 });
    expect(batches[1]).toBe(stored[1]);
    expect(batches[0]?.records[0]?.data.buffer).not.toBe(stored[0]?.records[1]?.data.buffer);
  });

  it("reads no batch beyond the limit", () => {
    let read = 0;
    function* counted(): Generator<StoredBatch> {
      for (const batch of stored) {
        read++;
        yield batch;
      }
    }
    slice(counted(), 10, { maxRecords: 3, maxBytes: 1e6 });
    slice(counted(), 10, { maxRecords: 100, maxBytes: 3 * size });
    expect(read).toBe(2);
  });
});
