import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BoundedQueue } from "../../src/async/queue.ts";

describe("BoundedQueue", () => {
  it("delivers what was pushed before the end, in order", async () => {
    const queue = new BoundedQueue<number>(10);
    for (const n of [1, 2, 3]) await queue.push(n);
    queue.end();
    await expect(Array.fromAsync(queue)).resolves.toEqual([1, 2, 3]);
    await expect(queue.push(4)).rejects.toThrow("ended");
  });

  it("delivers what was pushed before a failure, then the failure", async () => {
    const queue = new BoundedQueue<number>(10);
    await queue.push(1);
    queue.fail(new Error("broken"));
    const seen: number[] = [];
    await expect(
      (async () => {
        for await (const n of queue) seen.push(n);
      })(),
    ).rejects.toThrow("broken");
    expect(seen).toEqual([1]);
  });

  it("holds a producer back until there is room", async () => {
    const queue = new BoundedQueue<number>(2);
    await queue.push(1);
    let resumed = false;
    const held = queue.push(2).then(() => (resumed = true));
    await Promise.resolve();
    expect(resumed).toBe(false);
    const it = queue[Symbol.asyncIterator]();
    await it.next();
    await held;
    expect(resumed).toBe(true);
  });

  it("ends a held producer when its signal is aborted or the consumer leaves", async () => {
    const queue = new BoundedQueue<number>(1);
    const controller = new AbortController();
    const aborted = queue.push(1, controller.signal);
    controller.abort(new Error("enough"));
    await expect(aborted).rejects.toThrow("enough");
    const held = queue.push(2);
    const it = queue[Symbol.asyncIterator]();
    await it.next();
    await it.return(undefined);
    await expect(held).rejects.toThrow("consumer has left");
    await expect(queue.push(3)).rejects.toThrow("consumer has left");
    expect(queue.size).toBe(0);
  });

  it("neither loses nor reorders, whatever the pace of both sides", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 5 }),
        fc.array(fc.tuple(fc.boolean(), fc.boolean()), { maxLength: 50 }),
        async (capacity, paces) => {
          const queue = new BoundedQueue<number>(capacity);
          const produce = (async () => {
            for (const [n, [slow]] of paces.entries()) {
              if (slow) await new Promise(setImmediate);
              await queue.push(n);
            }
            queue.end();
          })();
          const seen: number[] = [];
          for await (const n of queue) {
            seen.push(n);
            expect(queue.size).toBeLessThanOrEqual(capacity);
            if (paces[n]?.[1] === true) await new Promise(setImmediate);
          }
          await produce;
          expect(seen).toEqual(paces.map((_, n) => n));
        },
      ),
      { numRuns: 50 },
    );
  });
});
