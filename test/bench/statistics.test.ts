import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { median, medianRatio, rotated } from "../../bench/statistics.ts";

describe("median", () => {
  for (const [values, expected] of [
    [[3], 3],
    [[5, 1, 3], 3],
    [[4, 1, 3, 2], 2.5],
    [[10, 9, 100], 10],
  ] as const) {
    it(`of ${values.join(", ")} is ${expected}`, () => {
      expect(median(values)).toBe(expected);
    });
  }

  it("of nothing is not a number", () => {
    expect(median([])).toBeNaN();
  });

  it("has as many values below it as above, and leaves its input alone", () => {
    fc.assert(
      fc.property(fc.array(fc.integer(), { minLength: 1 }), (values) => {
        const before = [...values];
        const middle = median(values);
        expect(values).toEqual(before);
        expect(values.filter((v) => v < middle).length).toBeLessThanOrEqual(values.length / 2);
        expect(values.filter((v) => v > middle).length).toBeLessThanOrEqual(values.length / 2);
      }),
    );
  });
});

describe("medianRatio", () => {
  it("compares within each round: a machine that is slow for a round changes no ratio", () => {
    expect(medianRatio([200, 20, 200], [100, 10, 100])).toBe(2);
    expect(medianRatio([100, 40, 10], [100, 10, 5])).toBe(2);
  });

  it("is not the ratio of the medians", () => {
    expect(medianRatio([1, 10, 100], [10, 1, 50])).toBe(2);
    expect(median([1, 10, 100]) / median([10, 1, 50])).toBe(1);
  });

  it("refuses rounds of which one side is missing", () => {
    expect(() => medianRatio([1, 2], [1])).toThrow("both sides");
  });
});

describe("rotated", () => {
  it("lets each be first once", () => {
    const orders = [0, 1, 2, 3].map((round) => rotated(["a", "b", "c"], round).join(""));
    expect(orders).toEqual(["abc", "bca", "cab", "abc"]);
  });

  it("has nothing to do with nothing", () => {
    expect(rotated([], 3)).toEqual([]);
  });
});
