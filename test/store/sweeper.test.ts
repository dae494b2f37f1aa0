import { expect, it, onTestFinished } from "vitest";
import { createMemoryStore } from "../../src/store/memory.ts";
import { startSweeper } from "../../src/store/sweeper.ts";
import { until } from "../support/deadline.ts";

it("tells when the clock was set, by how much, and once", async () => {
  let aheadMs = 0;
  let sweeps = 0;
  const jumps: number[] = [];
  const store = createMemoryStore();
  const stop = startSweeper(
    {
      sweep: async (nowMs, signal) => {
        await store.sweep(nowMs, signal);
        sweeps++;
      },
    },
    {
      intervalMs: 5,
      onError: (error) => {
        throw error;
      },
      onClockJump: (byMs) => jumps.push(Math.round(byMs / 1e6)),
      now: () => Date.now() + aheadMs,
    },
  );
  onTestFinished(stop);
  for (const next of [0, 1e9, 1e9, 30_000, 0]) {
    aheadMs = next;
    const before = sweeps;
    await until(10_000, "two sweeps", () => sweeps > before + 1);
  }
  // The last step, of half a minute, may be an adjustment.
  expect(jumps).toEqual([1000, -1000]);
});
