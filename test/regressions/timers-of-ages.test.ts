import { expect, it } from "vitest";
import { jittered } from "../../src/async/timers.ts";

// Each connection's age was a duration of its own, for which Node kept a list of timers until the age was over:
// 160 bytes for each connection of the last hour. See "sessions" in test/http3/leaks.test.ts.
it("ages of connections vary, and share their durations", () => {
  const hour = 3_600_000;
  const ages = new Set(Array.from({ length: 10_000 }, () => jittered(hour)));
  expect(ages.size).toBeGreaterThan(50);
  expect(ages.size).toBeLessThanOrEqual(101);
  expect(Math.min(...ages)).toBeGreaterThanOrEqual(0.9 * hour);
  expect(Math.max(...ages)).toBeLessThanOrEqual(1.1 * hour);
});
