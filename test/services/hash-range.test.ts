import { createHash } from "node:crypto";
import { expect, it } from "vitest";
import { hashRange } from "../../src/services/hash-range.ts";
import { createMemoryStore } from "../../src/store/memory.ts";
import type { Store } from "../../src/store/store.ts";

it("a range is hashed in parts, however small its records are, until the signal is aborted", async () => {
  const store = createMemoryStore();
  const appender = await store.openAppender({ stream: "s", createIfMissing: true });
  const empty = Array.from({ length: 5000 }, () => ({ data: new Uint8Array(), headers: {} }));
  for (let i = 0; i < 8; i++) await appender.append({ records: empty });
  await appender.append({ records: [{ data: Buffer.from("end"), headers: {} }] });
  const range = { stream: "s", uid: appender.uid, from: 0, to: 40_001 };
  let reads = 0;
  const controller = new AbortController();
  const counting: Store = {
    ...store,
    read: (...args) => {
      reads++;
      return store.read(...args);
    },
  };
  const hash = await hashRange(counting, range, 2 ** 20, controller.signal);
  expect(hash.digest("hex")).toBe(createHash("sha256").update("end").digest("hex"));
  expect(reads).toBeGreaterThanOrEqual(4);
  reads = 0;
  setImmediate(() => {
    controller.abort(new Error("enough"));
  });
  await expect(hashRange(counting, range, 2 ** 20, controller.signal)).rejects.toThrow("enough");
  expect(reads).toBeLessThan(4);
});
