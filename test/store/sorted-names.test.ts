import fc from "fast-check";
import { expect, it } from "vitest";
import { SortedNames } from "../../src/store/sorted-names.ts";

const name = fc.stringMatching(/^[a-c]{1,3}$/);
const step = fc.record({ kind: fc.constantFrom("add", "delete"), name });

/** What `slice` should find. */
function sliceOf(names: Iterable<string>, from: string, to: string, exclusive: boolean, limit: number): string[] {
  const found = [...names].sort().filter((each) => (exclusive ? each > from : each >= from) && each < to);
  return found.slice(0, limit);
}

it("names come in order, from and to wherever it is asked, also after some have gone", () => {
  fc.assert(
    fc.property(fc.array(step), name, name, fc.boolean(), fc.nat(10), (steps, from, to, exclusive, limit) => {
      const sorted = new SortedNames();
      const names = new Set<string>();
      for (const { kind, name: each } of steps) {
        if (kind === "delete") {
          sorted.delete(each);
          names.delete(each);
        } else if (!names.has(each)) {
          sorted.add(each);
          names.add(each);
        }
      }
      expect(sorted.slice(from, to, { exclusive, limit })).toEqual(sliceOf(names, from, to, exclusive, limit));
    }),
  );
});

it("names in several runs are one list, whichever order they come and go in", () => {
  const all = Array.from({ length: 3000 }, (_, i) => `n${String((i * 7919) % 3000).padStart(4, "0")}`);
  const sorted = new SortedNames();
  for (const each of all) sorted.add(each);
  const listed = (): string[] => sorted.slice("", "z", { exclusive: false, limit: Infinity });
  expect(listed()).toEqual([...all].sort());
  for (const [from, exclusive] of [
    ["n1000", false],
    ["n1000", true],
    ["n1000!", false],
  ] as const) {
    const options = { exclusive, limit: 1500 };
    expect(sorted.slice(from, "n2900", options)).toEqual(sliceOf(all, from, "n2900", exclusive, 1500));
  }
  // Whole runs, and parts of others.
  const gone = new Set(all.filter((each) => each < "n1300" || each.endsWith("7")));
  for (const each of gone) sorted.delete(each);
  sorted.delete("n0001");
  sorted.delete("absent");
  sorted.delete("zz");
  const left = all.filter((each) => !gone.has(each)).sort();
  expect(listed()).toEqual(left);
  for (const each of left) sorted.delete(each);
  expect(listed()).toEqual([]);
  sorted.add("again");
  expect(listed()).toEqual(["again"]);
});
