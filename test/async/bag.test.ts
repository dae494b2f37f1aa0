import fc from "fast-check";
import { expect, it } from "vitest";
import { Bag } from "../../src/async/bag.ts";

it("holds what was added and not deleted, whatever the order", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(20)), (steps) => {
      const items = Array.from({ length: 21 }, (_, name) => ({ name, place: -1 }));
      const bag = new Bag<(typeof items)[number]>();
      const expected = new Set<number>();
      for (const step of steps) {
        const item = items[step];
        if (item === undefined) continue;
        if (expected.delete(step)) {
          bag.delete(item);
          // A second time changes nothing.
          bag.delete(item);
        } else {
          bag.add(item);
          expected.add(step);
        }
        expect(bag.size).toBe(expected.size);
        expect(new Set(bag.toArray().map(({ name }) => name))).toEqual(expected);
      }
    }),
  );
});
