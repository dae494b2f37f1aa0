import { expect, it } from "vitest";
import { OpenProducers } from "../../src/store/open-producers.ts";

it("a producer is open as long as any of its appenders is, however often one is left", () => {
  const open = new OpenProducers();
  const leave = [open.enter(1, "p"), open.enter(1, "p")] as const;
  expect([open.has(1, "p"), open.has(1, "q"), open.has(2, "p")]).toEqual([true, false, false]);
  leave[0]();
  leave[0]();
  expect(open.has(1, "p")).toBe(true);
  leave[1]();
  expect(open.has(1, "p")).toBe(false);
});
