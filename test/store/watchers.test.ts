import { expect, it } from "vitest";
import { Watchers } from "../../src/store/watchers.ts";

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}

it("each listener of a stream is called once for a change, and none of another's", async () => {
  const watchers = new Watchers();
  const called: number[] = [];
  // More than one round of calls.
  for (let i = 0; i < 150; i++) watchers.watch("s", () => called.push(i));
  watchers.watch("other", () => called.push(-1));
  watchers.wake("s");
  watchers.wake("absent");
  expect(called).toEqual([0]);
  await turns(20);
  expect(called).toEqual(Array.from({ length: 150 }, (_, i) => i));
  watchers.wake("s");
  await turns(20);
  expect(called).toHaveLength(300);
});

it("changes while listeners are called are told once more to all, together", async () => {
  const watchers = new Watchers();
  const called: string[] = [];
  watchers.watch("s", () => called.push("a"));
  watchers.watch("s", () => called.push("b"));
  for (let i = 0; i < 5; i++) watchers.wake("s");
  await turns(20);
  expect(called).toEqual(["a", "b", "a", "b"]);
});

it("a listener that is taken away is not called any more, also when its turn was near", async () => {
  const watchers = new Watchers();
  const called: string[] = [];
  const stops = ["a", "b", "c"].map((name) => watchers.watch("s", () => called.push(name)));
  watchers.wake("s");
  stops[1]?.();
  await turns(10);
  expect(called).toEqual(["a", "c"]);
  expect(watchers.has("s")).toBe(true);
  for (const stop of stops) stop();
  expect(watchers.has("s")).toBe(false);
});

it("a cleanup that comes late takes nobody else away", () => {
  const watchers = new Watchers();
  const stop = watchers.watch("s", () => undefined);
  stop();
  watchers.watch("s", () => undefined);
  stop();
  expect(watchers.has("s")).toBe(true);
});
