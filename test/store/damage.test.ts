import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { isDomainError } from "../../src/errors.ts";
import { openLmdbStore } from "../../src/store/lmdb.ts";
import type { Store } from "../../src/store/store.ts";
import { problem, records, textsFrom } from "../contract/store-contract.ts";
import { flipBits, loseBatch, useFilledStore } from "../support/damaged-store.ts";
import { until } from "../support/deadline.ts";

const all = { maxRecords: Infinity, maxBytes: Infinity };

async function open(dir: string, now?: () => number): Promise<Store> {
  const store = await openLmdbStore({
    dir,
    maxBytes: 2 ** 30,
    producerTtlMs: 60_000,
    ...(now === undefined ? {} : { now }),
  });
  onTestFinished(() => store.close());
  return store;
}

const kinds: [string, (dir: string) => Promise<void>][] = [
  ["a bit that flipped", (dir) => flipBits(dir, "second of 2")],
  ["a batch that is gone", (dir) => loseBatch(dir, 4)],
];

describe.each(kinds)("%s", (_, damage) => {
  async function useDamaged(): Promise<Store> {
    const dir = await useFilledStore();
    await damage(dir);
    return open(dir);
  }

  it("is an error for the reader, who gets what is before it, and what is behind it when asked", async () => {
    const store = await useDamaged();
    const { batches, nextSeq } = await store.read("s", 0, all);
    expect([batches.length, nextSeq]).toEqual([2, 4]);
    for (const seq of [4, 5]) {
      const error: unknown = await store.read("s", seq, all).catch((reason: unknown) => reason);
      expect(isDomainError(error, "records-damaged") && error.problem).toEqual({
        kind: "records-damaged",
        stream: "s",
        seq,
        nextSeq: 6,
        head: 0,
        tail: 10,
      });
    }
    expect(await textsFrom(store, "s", 6)).toEqual(["first of 3", "second of 3", "first of 4", "second of 4"]);
  });

  it("does not keep appends, trims and a delete from their work", async () => {
    const store = await useDamaged();
    const appender = await store.openAppender({ stream: "s" });
    await expect(appender.append({ records: records("more") })).resolves.toMatchObject({ firstSeq: 10 });
    expect(await store.trim("s", 5)).toMatchObject({ head: 5, tail: 11 });
    expect(await problem(store.read("s", 5, all))).toBe("records-damaged");
    expect(await store.trim("s", 6)).toMatchObject({ head: 6 });
    expect(await textsFrom(store, "s", 10)).toEqual(["more"]);
    expect(await store.trim("s", 11)).toMatchObject({ head: 11, bytes: 0 });
    await store.delete("s");
  });

  it("leaves with retention as others do", async () => {
    const store = await useDamaged();
    await store.update("s", { maxRecords: 1 });
    await until(10_000, "the retention", async () => (await store.get("s")).head === 8);
    await store.update("s", { maxRecords: 0, maxAgeMs: 1 });
    const appender = await store.openAppender({ stream: "s" });
    await appender.append({ records: records("newest") });
    await store.sweep(Date.now() + 1000);
    expect(await store.get("s")).toMatchObject({ head: 10, tail: 11 });
    expect(await textsFrom(store, "s", 10)).toEqual(["newest"]);
  });
});

it("of a batch, or its loss, ends a search by time, wherever the time is", async () => {
  for (const lost of [0, 2, 4, 8]) {
    const dir = await useFilledStore((i) => 1000 * i);
    await loseBatch(dir, lost);
    const store = await open(dir);
    for (let timeMs = -500; timeMs < 5500; timeMs += 250) {
      const outcome = await store.seqAtTime("s", timeMs).catch((error: unknown) => {
        if (!isDomainError(error, "records-damaged")) throw error;
        return "damaged";
      });
      const right = Math.min(10, 2 * Math.max(0, Math.ceil(timeMs / 1000)));
      expect([right, "damaged"], `lost ${lost}, time ${timeMs}`).toContain(outcome);
    }
  }
});

it("of each byte of a batch and its key is an error, and never another record", async () => {
  const dir = await useFilledStore();
  const path = join(dir, "data.mdb");
  const intact = await readFile(path);
  const text = Buffer.from("first of 3");
  // In front of the text are 37 bytes of the batch, and at least as many of the key as its number takes.
  const before = 37 + 8;
  const length = before + 2 * text.length + 8;
  for (let at = 0; at < length; at++) {
    const bytes = Buffer.from(intact);
    for (let found = bytes.indexOf(text); found !== -1; found = bytes.indexOf(text, found + length)) {
      const place = found - before + at;
      bytes.writeUInt8(bytes.readUInt8(place) ^ (1 << (at & 7)), place);
    }
    await writeFile(path, bytes);
    const store = await openLmdbStore({ dir, maxBytes: 2 ** 30, producerTtlMs: 60_000 });
    for (let seq = 0; seq < 10; seq++) {
      const expected = `${seq % 2 === 0 ? "first" : "second"} of ${Math.floor(seq / 2)}`;
      const { batches } = await store.read("s", seq, { ...all, maxRecords: 1 }).catch((error: unknown) => {
        if (!isDomainError(error, "records-damaged")) throw error;
        return { batches: [{ records: records(expected) }] };
      });
      expect(Buffer.from(batches[0]?.records[0]?.data ?? []).toString(), `byte ${at}, seq ${seq}`).toBe(expected);
    }
    await store.close();
  }
});
