import { describe, expect, it } from "vitest";
import { ageFrom, noteArrival, notice } from "../../src/store/age.ts";
import type { Noticed } from "../../src/store/age.ts";

const hour = 3_600_000;
const now = 1000 * hour;

/** A stream whose newest time is this. */
function stream(appendTimeMs: number, tail = 10): { appendTimeMs: number; tail: number } {
  return { appendTimeMs, tail };
}

describe("what is noted of a stream", () => {
  it("is nothing while its newest time is past, or not further ahead than a minute", () => {
    for (const timeMs of [now - hour, now, now + 59_000])
      expect(notice(stream(timeMs), undefined, now)).toBeUndefined();
    expect(notice(stream(now + 60_000), undefined, now)).toBeUndefined();
    expect(notice(stream(now + 60_001), undefined, now)).toBeDefined();
    expect(notice({ tail: 0 }, undefined, now)).toBeUndefined();
    expect(notice(stream(now + hour), undefined, now)).toEqual({ beforeSeq: 10, timeMs: now, aheadMs: now + hour });
  });

  it("is noted once, and again when the clock has been ahead anew, by more or by less", () => {
    const ahead = stream(now + 48 * hour);
    const first = notice(ahead, undefined, now) as Noticed;
    expect(notice(ahead, first, now + 1000)).toBeUndefined();
    expect(notice(stream(now + 48 * hour, 20), noteArrival(first, now + 1000), now + 2000)).toBeUndefined();
    expect(notice(stream(now + 50 * hour, 20), noteArrival(first, now + 50 * hour), now + 2000)).toMatchObject({
      beforeSeq: 20,
      timeMs: now + 2000,
    });
    // The newest time stood still.
    const less = noteArrival(noteArrival(first, now + 40 * hour), now + 1000);
    expect(notice(stream(now + 48 * hour, 20), less, now + 2000)).toMatchObject({ beforeSeq: 20 });
    // What was noted while the clock was ahead is worth nothing.
    const wrong = notice(stream(now + 60 * hour), undefined, now + 40 * hour) as Noticed;
    expect(notice(stream(now + 60 * hour), wrong, now)).toMatchObject({ timeMs: now });
  });
});

describe("the age of a batch", () => {
  const noted: Noticed = { beforeSeq: 10, timeMs: now - hour, aheadMs: now + 9 * hour };

  it("counts from its time, from its arrival if that is in the future, or from when that was noted", () => {
    const past = { firstSeq: 0, timeMs: now - 5 * hour, arrivalMs: now - 6 * hour };
    expect(ageFrom(past, noted, now)).toBe(now - 5 * hour);
    const clamped = { firstSeq: 0, timeMs: now + 9 * hour, arrivalMs: now - 2 * hour };
    expect(ageFrom(clamped, noted, now)).toBe(now - 2 * hour);
    const ahead = { firstSeq: 9, timeMs: now + 9 * hour, arrivalMs: now + 9 * hour };
    expect(ageFrom(ahead, noted, now)).toBe(now - hour);
    expect(ageFrom({ ...ahead, firstSeq: 10 }, noted, now)).toBe(now);
    expect(ageFrom(ahead, undefined, now)).toBe(now);
    expect(ageFrom(ahead, { ...noted, timeMs: now + hour }, now)).toBe(now);
  });
});
