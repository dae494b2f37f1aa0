import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { isDomainError } from "../../src/errors.ts";
import type { ProblemKind } from "../../src/errors.ts";
import { producerWindow } from "../../src/store/append-rules.ts";
import type { AppendInput, Store, StoredRecord } from "../../src/store/store.ts";
import { deferred, until, within } from "../support/deadline.ts";

/** A store on an empty place, with a clock of the test's. */
export type OpenStore = (options: { now: () => number; producerTtlMs: number }) => Promise<Store>;

const all = { maxRecords: Infinity, maxBytes: Infinity };

export function record(text: string, headers: Record<string, string> = {}): StoredRecord {
  return { data: Buffer.from(text), headers };
}

export function records(...texts: string[]): StoredRecord[] {
  return texts.map((text) => record(text));
}

/** Everything from a position on, as text. */
export async function textsFrom(store: Store, name: string, fromSeq: number): Promise<string[]> {
  const texts: string[] = [];
  let seq = fromSeq;
  for (;;) {
    const { batches, nextSeq, info } = await store.read(name, seq, { maxRecords: 7, maxBytes: 100 });
    for (const batch of batches) {
      expect(batch.firstSeq).toBe(seq);
      for (const { data } of batch.records) texts.push(Buffer.from(data).toString());
      seq = batch.firstSeq + batch.records.length;
    }
    expect(seq).toBe(nextSeq);
    if (seq === info.tail) return texts;
  }
}

/** The kind of DomainError that the work fails with. */
export async function problem(work: Promise<unknown>): Promise<ProblemKind | "none"> {
  try {
    await within(10_000, "the end of the operation", work);
    return "none";
  } catch (error) {
    if (isDomainError(error)) return error.problem.kind;
    throw error;
  }
}

/** What must hold for every store. */
export function describeStore(name: string, open: OpenStore): void {
  describe(`${name}: the store's contract`, () => {
    let store: Store;
    let nowMs: number;

    beforeEach(async () => {
      nowMs = 1_000_000;
      store = await open({ now: () => nowMs, producerTtlMs: 10_000 });
    });
    afterEach(() => store.close());

    async function append(stream: string, ...texts: string[]): Promise<void> {
      const appender = await store.openAppender({ stream, createIfMissing: true });
      await appender.append({ records: records(...texts) });
    }

    describe("a stream that is deleted and made again", () => {
      it("has another uid, and is safe from what was meant for the one before", async () => {
        await append("s", "a");
        const { uid: expectedUid } = await store.get("s");
        const open = await store.openAppender({ stream: "s" });
        const producer = { id: "p", epoch: 3 };
        const produced = await store.openAppender({ stream: "s", producer });
        expect([open.uid, produced.uid]).toEqual([expectedUid, expectedUid]);
        await store.delete("s");
        const meant = (): Promise<unknown>[] => [
          store.openAppender({ stream: "s", createIfMissing: true, expectedUid }),
          store.claimProducer({ stream: "s", createIfMissing: true, producerId: "p", expectedUid }),
          store.trim("s", 1, { expectedUid }),
          store.seal("s", { expectedUid }),
          store.delete("s", { expectedUid }),
        ];
        // Not made again either: it would be another one.
        expect(await Promise.all(meant().map(problem))).toEqual(Array(5).fill("stream-not-found"));
        await append("s", "b", "c");
        const { uid } = await store.get("s");
        expect(uid).not.toBe(expectedUid);
        expect(await Promise.all(meant().map(problem))).toEqual(Array(5).fill("stream-replaced"));
        expect(await problem(open.append({ records: records("late") }))).toBe("stream-replaced");
        expect(await problem(produced.append({ records: records("late"), producerSeq: 0 }))).toBe("stream-replaced");
        expect(await store.get("s")).toMatchObject({ uid, head: 0, tail: 2, sealed: false });
        await store.trim("s", 1, { expectedUid: uid });
        await store.seal("s", { expectedUid: uid });
        await store.delete("s", { expectedUid: uid });
        expect(await problem(store.get("s"))).toBe("stream-not-found");
      });
    });

    it("a stream keeps what its creator has said about it", async () => {
      const metadata = { "content-type": "image/png", by: "ünï" };
      expect((await store.create("m", {}, metadata)).metadata).toEqual(metadata);
      await append("m", "a");
      await store.update("m", { maxBytes: 10 });
      expect((await store.get("m")).metadata).toEqual(metadata);
      expect((await store.list({ limit: 1 }))[0]?.metadata).toEqual(metadata);
    });

    describe("streams", () => {
      it("are created once, described, listed in order, deleted", async () => {
        const retention = { maxBytes: 1000 };
        await expect(store.create("b", retention)).resolves.toEqual({
          name: "b",
          uid: expect.stringMatching(/^[A-Za-z0-9_-]{12}$/) as string,
          head: 0,
          tail: 0,
          bytes: 0,
          sealed: false,
          createTimeMs: nowMs,
          retention,
        });
        expect(await problem(store.create("b"))).toBe("stream-exists");
        for (const other of ["a", "a/b", "a.b", "a-b", "c", "ab"]) await store.create(other);
        const names = async (options: Parameters<Store["list"]>[0]) =>
          (await store.list(options)).map((info) => info.name);
        expect(await names({ limit: 10 })).toEqual(["a", "a-b", "a.b", "a/b", "ab", "b", "c"]);
        expect(await names({ limit: 2, after: "a.b" })).toEqual(["a/b", "ab"]);
        const inRanges = (...ranges: [from: string, to: string][]) => ({
          limit: 10,
          ranges: ranges.map(([from, to]) => ({ from, to })),
        });
        expect(await names(inRanges(["a/", "a0"]))).toEqual(["a/b"]);
        expect(await names({ ...inRanges(["a", "b"]), after: "a/b" })).toEqual(["ab"]);
        expect(await names({ ...inRanges(["b", "c"]), after: "a" })).toEqual(["b"]);
        expect(await names({ ...inRanges(["a", "b"], ["c", "d"]), after: "c" })).toEqual([]);
        // One name alone: nothing stands between it and what begins with it.
        expect(await names(inRanges(["a", "a\0"], ["ab", "ab\0"], ["x", "x\0"]))).toEqual(["a", "ab"]);
        expect(await names({ ...inRanges(["a", "a\0"], ["ab", "ab\0"], ["b", "\x7f"]), limit: 2 })).toEqual([
          "a",
          "ab",
        ]);
        expect(await names(inRanges())).toEqual([]);
        await store.delete("b");
        expect(await problem(store.get("b"))).toBe("stream-not-found");
        expect(await problem(store.delete("b"))).toBe("stream-not-found");
      });

      it("are listed in order, however many there are and in whatever order they came and went", async () => {
        const names = Array.from({ length: 1500 }, (_, i) => `n${String(i * 7919 + 1).padStart(8, "0")}`);
        const shuffled = names.map((name, i) => ({ name, key: (i * 733) % names.length }));
        shuffled.sort((a, b) => a.key - b.key);
        await Promise.all(shuffled.map(({ name }) => store.create(name)));
        const gone = new Set(names.filter((_, i) => i % 3 === 0 || (i > 600 && i < 1300)));
        await Promise.all([...gone].map((name) => store.delete(name)));
        const left = names.filter((name) => !gone.has(name));
        for (const limit of [1, 99, 100, 101, 5000]) {
          const found: string[] = [];
          for (let after: string | undefined; found.length < left.length;) {
            const page = await store.list({ limit, ...(after === undefined ? {} : { after }) });
            if (page.length === 0) break;
            found.push(...page.map(({ name }) => name));
            after = found.at(-1);
          }
          expect(found).toEqual(left);
          if (limit === 1) expect(await store.list({ limit, after: left.at(-1) ?? "" })).toEqual([]);
        }
      });

      it("are listed while others have their turns, and until the signal is aborted", async () => {
        const ranges = Array.from({ length: 200_000 }, (_, i) => {
          const from = `absent/${String(i).padStart(7, "0")}`;
          return { from, to: `${from}\0` };
        });
        const controller = new AbortController();
        let turns = 0;
        const count = (): void => {
          if (++turns === 3) controller.abort(new Error("enough"));
          else setImmediate(count);
        };
        setImmediate(count);
        await expect(store.list({ limit: 10, ranges }, controller.signal)).rejects.toThrow("enough");
      });

      it("that do not exist are not found, whatever is asked", async () => {
        for (const asked of [
          store.get("x"),
          store.trim("x", 0),
          store.seal("x"),
          store.read("x", 0, all),
          store.seqAtTime("x", 0),
          store.openAppender({ stream: "x" }),
        ]) {
          expect(await problem(asked)).toBe("stream-not-found");
        }
      });

      it("made again under a name start at 0, and show nothing of the ones before", async () => {
        await append("s", "old", "older");
        const stale = await store.openAppender({ stream: "s" });
        await store.delete("s");
        await append("s", "new");
        expect(await textsFrom(store, "s", 0)).toEqual(["new"]);
        expect(await problem(stale.append({ records: records("late") }))).toBe("stream-replaced");
        expect(await textsFrom(store, "s", 0)).toEqual(["new"]);
      });
    });

    describe("appends", () => {
      it("are dense from 0, and keep headers and data as they are", async () => {
        const appender = await store.openAppender({ stream: "s", createIfMissing: true });
        const headers = {
          ...{ "content-type": "text/plain", empty: "", "": "no key", ü: "é😀" },
          // Names that mean something to every object.
          ...{ ["__proto__"]: "proto", constructor: "c", toString: "t", hasOwnProperty: "h", valueOf: "v" },
        };
        const first = [record("a", headers), record(""), { data: new Uint8Array([0, 255]), headers: {} }];
        await expect(appender.append({ records: first })).resolves.toEqual({
          firstSeq: 0,
          nextSeq: 3,
          duplicate: false,
        });
        await expect(appender.append({ records: records("d") })).resolves.toMatchObject({ firstSeq: 3, nextSeq: 4 });
        const { batches } = await store.read("s", 0, all);
        const got = batches.flatMap((batch) => batch.records);
        expect(got.map(({ headers: h }) => Object.entries(h))).toEqual([Object.entries(headers), [], [], []]);
        expect(got.map(({ data }) => [...data])).toEqual([[97], [], [0, 255], [100]]);
      });

      it("and all else are refused only for what everybody can see by then", async () => {
        await append("s", "a");
        const info = await store.get("s");
        const refusals: [what: string, attempt: () => Promise<unknown>, seen: () => Promise<boolean>][] = [];
        const writer = await store.openAppender({ stream: "s" });
        const stale = await store.openAppender({ stream: "s", expectedSeq: info.tail });
        const grown = async (): Promise<boolean> => (await store.get("s")).tail > info.tail;
        refusals.push(["an append that expects the tail", () => stale.append({ records: records("x") }), grown]);
        refusals.push(["a seal that does", () => store.seal("s", { expectedSeq: info.tail }), grown]);
        refusals.push([
          "a stream of the same name",
          () => store.create("t"),
          async () => "t" === (await store.get("t")).name,
        ]);
        // All in one turn, so that they share a commit with what they are refused for.
        const stored = [writer.append({ records: records("b") }), store.create("t")];
        const visible = refusals.map(async ([what, attempt, seen]) => {
          const kind = await problem(attempt());
          return [what, kind === "none" ? "stored" : await seen().catch(() => false)];
        });
        expect(await Promise.all(visible)).toEqual(refusals.map(([what]) => [what, true]));
        await Promise.all(stored);
      });

      it("of one batch make a missing stream together with it, or not at all", async () => {
        const batch = { records: records("a") };
        const options = { stream: "s", createIfMissing: true };
        expect(await problem(store.append({ stream: "s" }, batch))).toBe("stream-not-found");
        expect(await problem(store.append({ ...options, expectedSeq: 3 }, batch))).toBe("seq-mismatch");
        const gap = { ...batch, producerSeq: 1 };
        expect(await problem(store.append({ ...options, producer: { id: "p", epoch: 1 } }, gap))).toBe("producer-gap");
        expect(await problem(store.get("s"))).toBe("stream-not-found");
        expect(await store.list({ limit: 10 })).toEqual([]);
        let stored = false;
        const storing = store.append({ ...options, expectedSeq: 0 }, batch).finally(() => (stored = true));
        while (!stored) {
          const tail = await store.get("s").then(
            (info) => info.tail,
            () => undefined,
          );
          expect([undefined, 1]).toContain(tail);
          await new Promise(setImmediate);
        }
        const { uid } = await store.get("s");
        expect(await storing).toEqual({ firstSeq: 0, nextSeq: 1, duplicate: false, uid });
        for (let i = 0; i < 20; i++) {
          const [, appended] = await Promise.all([store.delete("s"), store.append(options, batch)]);
          expect(appended).toMatchObject({ firstSeq: 0, nextSeq: 1, duplicate: false });
        }
        expect(await textsFrom(store, "s", 0)).toEqual(["a"]);
        const sealed = await store.append(options, { ...batch, seal: {} });
        expect(sealed).toMatchObject({ firstSeq: 1, nextSeq: 2, duplicate: false });
        expect((await store.get("s")).sealed).toBe(true);
        expect(await problem(store.append(options, batch))).toBe("stream-sealed");
      });

      it("in flight together are stored in the order of the calls", async () => {
        const appender = await store.openAppender({ stream: "s", createIfMissing: true });
        const texts = Array.from({ length: 500 }, (_, i) => String(i));
        const results = await Promise.all(texts.map((text) => appender.append({ records: records(text) })));
        expect(results.map(({ firstSeq }) => firstSeq)).toEqual(texts.map(Number));
        expect(await textsFrom(store, "s", 0)).toEqual(texts);
      });

      it("after the first failure are not stored, and fail alike", async () => {
        const appender = await store.openAppender({ stream: "s", createIfMissing: true, expectedSeq: 0 });
        const other = await store.openAppender({ stream: "s", createIfMissing: true });
        const results = [
          problem(appender.append({ records: records("a") })),
          problem(other.append({ records: records("b") })),
          problem(appender.append({ records: records("c") })),
          problem(appender.append({ records: records("d") })),
          problem(other.append({ records: records("e") })),
        ];
        expect(await Promise.all(results)).toEqual(["none", "none", "seq-mismatch", "seq-mismatch", "none"]);
        expect(await textsFrom(store, "s", 0)).toEqual(["a", "b", "e"]);
      });

      it("tell their time, which never goes backwards", async () => {
        const appender = await store.openAppender({ stream: "s", createIfMissing: true });
        await appender.append({ records: records("a") });
        nowMs -= 5000;
        await appender.append({ records: records("b") });
        nowMs += 9000;
        await appender.append({ records: records("c") });
        const { batches, info } = await store.read("s", 0, all);
        expect(batches.map(({ timeMs }) => timeMs)).toEqual([1_000_000, 1_000_000, 1_004_000]);
        expect(info.appendTimeMs).toBe(1_004_000);
      });
    });

    describe("producers", () => {
      const producer = { id: "p", epoch: 0 };
      const input = (producerSeq: number, ...texts: string[]): AppendInput => ({
        records: records(...texts),
        producerSeq,
      });

      it("store a batch once: a repeat has the positions of the first time", async () => {
        const one = await store.openAppender({ stream: "s", createIfMissing: true, producer });
        expect(one.nextProducerSeq).toBe(0);
        await one.append(input(0, "a", "b"));
        await append("s", "x");
        await one.append(input(1, "c"));
        const two = await store.openAppender({ stream: "s", producer });
        expect(two).toMatchObject({ nextProducerSeq: 2, firstSeq: 0, tail: 4 });
        await expect(two.append(input(0, "a", "b"))).resolves.toEqual({ firstSeq: 0, nextSeq: 2, duplicate: true });
        await expect(two.append(input(1, "c"))).resolves.toEqual({ firstSeq: 3, nextSeq: 4, duplicate: true });
        await expect(two.append(input(2, "d"))).resolves.toEqual({ firstSeq: 4, nextSeq: 5, duplicate: false });
        expect(await textsFrom(store, "s", 0)).toEqual(["a", "b", "x", "c", "d"]);
      });

      it("in flight together, with repeats, store each batch once", async () => {
        const one = await store.openAppender({ stream: "s", createIfMissing: true, producer });
        const two = await store.openAppender({ stream: "s", createIfMissing: true, producer });
        const results = await Promise.all(
          [0, 1, 2].flatMap((n) => [one.append(input(n, `${n}`)), two.append(input(n, `${n}`))]),
        );
        expect(results.map(({ duplicate }) => duplicate)).toEqual([false, true, false, true, false, true]);
        expect(await textsFrom(store, "s", 0)).toEqual(["0", "1", "2"]);
      });

      it("fail on a gap, and on an epoch that is over", async () => {
        const old = await store.openAppender({ stream: "s", createIfMissing: true, producer });
        await old.append(input(0, "a"));
        const gap = await store.openAppender({ stream: "s", producer });
        expect(await problem(gap.append(input(2, "c")))).toBe("producer-gap");
        const fresh = await store.openAppender({ stream: "s", producer: { id: "p", epoch: 1 } });
        expect(fresh.nextProducerSeq).toBe(0);
        await fresh.append(input(0, "b"));
        expect(await problem(old.append(input(1, "late")))).toBe("producer-fenced");
        const again = await store.openAppender({ stream: "s", producer: { id: "p", epoch: 1 } });
        expect(again).toMatchObject({ nextProducerSeq: 1, firstSeq: 1 });
        expect(await textsFrom(store, "s", 0)).toEqual(["a", "b"]);
      });

      it("that send another batch under the number of a stored one are told", async () => {
        const one = await store.openAppender({ stream: "s", createIfMissing: true, producer });
        await one.append(input(0, "a", "b"));
        const others: [string, AppendInput][] = [
          ["other data", input(0, "a", "c")],
          ["data cut in another way", input(0, "ab")],
          ["fewer records", input(0, "a")],
          ["other headers", { records: [record("a", { k: "v" }), record("b")], producerSeq: 0 }],
          ["a seal", { ...input(0, "a", "b"), seal: {} }],
        ];
        for (const [what, other] of others) {
          const two = await store.openAppender({ stream: "s", producer });
          expect([what, await problem(two.append(other))]).toEqual([what, "producer-conflict"]);
        }
        // In one commit with the batch whose number it uses.
        const both = await Promise.all(
          ["c", "d"].map(async (text) => {
            const appender = await store.openAppender({ stream: "s", producer });
            return problem(appender.append(input(1, text)));
          }),
        );
        expect(both).toEqual(["none", "producer-conflict"]);
        expect(await textsFrom(store, "s", 0)).toEqual(["a", "b", "c"]);
        expect((await store.get("s")).sealed).toBe(false);
      });

      it("may send headers in another order when they send a batch again, as Protobuf's maps have none", async () => {
        const one = await store.openAppender({ stream: "s", createIfMissing: true, producer });
        const headersOf = (...names: string[]) => Object.fromEntries(names.map((name) => [name, name]));
        const batch = (...names: string[]) => ({ records: [record("a", headersOf(...names))], producerSeq: 0 });
        await one.append(batch("x", "y", "z"));
        await expect(one.append(batch("z", "x", "y"))).resolves.toMatchObject({ duplicate: true });
        const two = await store.openAppender({ stream: "s", producer });
        expect(await problem(two.append(batch("x", "y")))).toBe("producer-conflict");
      });

      it("get no epoch that is beyond what the wire takes", async () => {
        const highest = { id: "p", epoch: Number.MAX_SAFE_INTEGER };
        const one = await store.openAppender({ stream: "s", createIfMissing: true, producer: highest });
        await one.append(input(0, "a"));
        expect(await problem(store.claimProducer({ stream: "s", producerId: "p" }))).toBe("invalid-argument");
        await expect(store.claimProducer({ stream: "s", producerId: "q" })).resolves.toMatchObject({ epoch: 1 });
      });

      it("are claimed with an epoch above every one before", async () => {
        expect(await problem(store.claimProducer({ stream: "s", producerId: "p" }))).toBe("stream-not-found");
        const chosen = await store.openAppender({
          stream: "s",
          createIfMissing: true,
          producer: { id: "p", epoch: 7 },
        });
        await chosen.append(input(0, "a"));
        const { uid } = await store.get("s");
        await expect(store.claimProducer({ stream: "s", producerId: "p" })).resolves.toEqual({ epoch: 8, uid });
        expect(await problem(chosen.append(input(1, "late")))).toBe("producer-fenced");
        const first = await store.openAppender({ stream: "s", producer: { id: "p", epoch: 8 } });
        expect(first).toMatchObject({ nextProducerSeq: 0, firstSeq: 1 });
        // Others append between the claim and the first batch.
        await append("s", "x");
        await first.append(input(0, "b"));
        await first.append(input(1, "c"));
        expect((await store.openAppender({ stream: "s", producer: { id: "p", epoch: 8 } })).firstSeq).toBe(2);
        // Many at once get an epoch each, and only the last one appends.
        const claims = await Promise.all([1, 2, 3].map(() => store.claimProducer({ stream: "s", producerId: "p" })));
        expect(claims.map(({ epoch }) => epoch)).toEqual([9, 10, 11]);
        expect(await problem(first.append(input(2, "late")))).toBe("producer-fenced");
        expect(await textsFrom(store, "s", 0)).toEqual(["a", "x", "b", "c"]);
      });

      it("get no epoch a second time, though they were forgotten", async () => {
        const claim = async (producerId: string): Promise<number> =>
          (await store.claimProducer({ stream: "s", createIfMissing: true, producerId })).epoch;
        const epoch = await claim("p");
        expect(epoch).toBe(1);
        await store.sweep(nowMs + 20_000);
        expect(await claim("p")).toBe(2);
        expect(await claim("other")).toBeGreaterThan(0);
      });

      it("are not forgotten while they have an appender open, and idle from its end on", async () => {
        const one = await store.openAppender({ stream: "s", createIfMissing: true, producer });
        await one.append(input(0, "a"));
        // A day goes by, or the clock was set.
        nowMs += 86_400_000;
        await store.sweep(nowMs);
        await expect(one.append(input(1, "b"))).resolves.toMatchObject({ firstSeq: 1 });
        nowMs += 86_400_000;
        await store.sweep(nowMs);
        one.close();
        one.close();
        await append("s", "x");
        await store.sweep(nowMs + 1000);
        expect((await store.openAppender({ stream: "s", producer })).nextProducerSeq).toBe(2);
      });

      it("succeed with a repeat, whatever is expected and even when the stream is sealed", async () => {
        const one = await store.openAppender({ stream: "s", createIfMissing: true, producer, expectedSeq: 0 });
        await one.append({ ...input(0, "a"), seal: {} });
        const two = await store.openAppender({ stream: "s", producer, expectedSeq: 0 });
        await expect(two.append({ ...input(0, "a"), seal: {} })).resolves.toMatchObject({
          firstSeq: 0,
          duplicate: true,
        });
        const three = await store.openAppender({ stream: "s", producer });
        expect(await problem(three.append(input(1, "b")))).toBe("stream-sealed");
      });

      it("are answered within a window of batches, and told when a repeat is older", async () => {
        const one = await store.openAppender({ stream: "s", createIfMissing: true, producer });
        const count = producerWindow + 10;
        await Promise.all(Array.from({ length: count }, (_, n) => one.append(input(n, String(n)))));
        const repeat = async (n: number) =>
          (await store.openAppender({ stream: "s", producer })).append(input(n, String(n)));
        await expect(repeat(10)).resolves.toEqual({ firstSeq: 10, nextSeq: 11, duplicate: true });
        expect(await problem(repeat(9))).toBe("producer-repeat-too-old");
      });

      it("are forgotten when they are idle for too long", async () => {
        const one = await store.openAppender({ stream: "s", createIfMissing: true, producer });
        await one.append(input(0, "a"));
        one.close();
        const next = async (): Promise<number | undefined> => {
          const appender = await store.openAppender({ stream: "s", producer });
          appender.close();
          return appender.nextProducerSeq;
        };
        await store.sweep(nowMs + 9000);
        expect(await next()).toBe(1);
        await store.sweep(nowMs + 11_000);
        expect(await next()).toBe(0);
      });
    });

    describe("expected seq", () => {
      it("stores only at the tail, and each later batch right behind the one before", async () => {
        await append("s", "a");
        const stale = await store.openAppender({ stream: "s", expectedSeq: 0 });
        expect(await problem(stale.append({ records: records("b") }))).toBe("seq-mismatch");
        const right = await store.openAppender({ stream: "s", expectedSeq: 1 });
        await right.append({ records: records("b") });
        await right.append({ records: records("c") });
        expect(await textsFrom(store, "s", 0)).toEqual(["a", "b", "c"]);
      });

      it("makes no stream for an appender that expects another tail", async () => {
        const opened = store.openAppender({ stream: "none", createIfMissing: true, expectedSeq: 1 });
        expect(await problem(opened)).toBe("seq-mismatch");
        expect(await problem(store.get("none"))).toBe("stream-not-found");
      });

      it("lets one of many win", async () => {
        await store.create("s");
        const outcomes = await Promise.all(
          Array.from({ length: 20 }, async (_, n) => {
            const appender = await store.openAppender({ stream: "s", expectedSeq: 0 });
            return problem(appender.append({ records: records(String(n)) }));
          }),
        );
        expect(outcomes.filter((outcome) => outcome === "none")).toHaveLength(1);
        expect((await store.get("s")).tail).toBe(1);
      });
    });

    describe("seals", () => {
      const sha256 = new Uint8Array(32).fill(7);
      const checksum = { sha256, firstSeq: 0 };
      // A store may give the bytes back as a Buffer.
      const stored = {
        sha256: expect.toSatisfy((bytes: Uint8Array) => Buffer.from(sha256).equals(bytes)),
        firstSeq: 0,
      };

      it("end a stream, together with the last batch", async () => {
        const appender = await store.openAppender({ stream: "s", createIfMissing: true });
        const last = appender.append({ records: records("a"), seal: { checksum, expectedSeq: 0 } });
        const late = problem(appender.append({ records: records("b") }));
        await last;
        expect(await late).toBe("stream-sealed");
        expect(await store.get("s")).toMatchObject({ sealed: true, tail: 1, checksum: stored });
      });

      it("are refused at another tail, and then nothing of the batch is stored", async () => {
        await append("s", "a");
        const appender = await store.openAppender({ stream: "s" });
        expect(await problem(appender.append({ records: records("b"), seal: { expectedSeq: 0 } }))).toBe(
          "seq-mismatch",
        );
        expect(await problem(store.seal("s", { expectedSeq: 0 }))).toBe("seq-mismatch");
        expect(await store.get("s")).toMatchObject({ sealed: false, tail: 1 });
      });

      it("can be repeated, unless the checksums differ", async () => {
        await append("s", "a");
        await store.seal("s", { checksum });
        await store.seal("s");
        await store.seal("s", { checksum });
        expect((await store.get("s")).checksum).toMatchObject(stored);
        const other = { sha256: new Uint8Array(32), firstSeq: 0 };
        expect(await problem(store.seal("s", { checksum: other }))).toBe("checksum-mismatch");
      });
    });

    describe("reads", () => {
      beforeEach(async () => {
        await append("s", "0", "1", "2");
        await append("s", "3");
        await append("s", "4", "5");
      });

      it("begin anywhere, also within a batch, and end at the tail", async () => {
        for (let seq = 0; seq <= 6; seq++) {
          expect(await textsFrom(store, "s", seq)).toEqual(["0", "1", "2", "3", "4", "5"].slice(seq));
        }
        expect((await store.read("s", 6, all)).batches).toEqual([]);
        for (const seq of [7, 100]) expect(await problem(store.read("s", seq, all))).toBe("position-out-of-range");
      });

      it("keep to their limits, but give one record at least", async () => {
        const { batches, nextSeq } = await store.read("s", 1, { maxRecords: 3, maxBytes: 100 });
        expect(batches.map(({ firstSeq, records: { length } }) => [firstSeq, length])).toEqual([
          [1, 2],
          [3, 1],
        ]);
        expect(nextSeq).toBe(4);
        expect((await store.read("s", 0, { maxRecords: 10, maxBytes: 4 })).nextSeq).toBe(4);
        expect((await store.read("s", 0, { maxRecords: 10, maxBytes: 0 })).nextSeq).toBe(1);
      });

      it("can be kept to one stream, whatever is made again under its name", async () => {
        await append("g", "a", "b");
        const { uid: expectedUid } = (await store.read("g", 0, all)).info;
        expect((await store.read("g", 1, { ...all, expectedUid })).nextSeq).toBe(2);
        await store.delete("g");
        expect(await problem(store.read("g", 0, { ...all, expectedUid }))).toBe("stream-not-found");
        await append("g", "c", "d");
        for (const seq of [0, 2, 3]) {
          expect(await problem(store.read("g", seq, { ...all, expectedUid }))).toBe("stream-replaced");
        }
        expect((await store.read("g", 0, all)).info.uid).not.toBe(expectedUid);
      });

      it("find the first record of a time", async () => {
        const appender = await store.openAppender({ stream: "t", createIfMissing: true });
        expect(await store.seqAtTime("t", 0)).toBe(0);
        const starts: [time: number, seq: number][] = [];
        for (let i = 0; i < 40; i++) {
          nowMs += 10;
          const { firstSeq } = await appender.append({
            records: records(...Array.from({ length: 1 + (i % 4) }, String)),
          });
          starts.push([nowMs, firstSeq]);
        }
        const { tail } = await store.get("t");
        for (const [time, seq] of starts) {
          expect(await store.seqAtTime("t", time)).toBe(seq);
          expect(await store.seqAtTime("t", time - 9)).toBe(seq);
        }
        expect(await store.seqAtTime("t", nowMs + 1)).toBe(tail);
        await store.trim("t", 31);
        expect(await store.seqAtTime("t", 0)).toBe(31);
      });
    });

    describe("watching", () => {
      /** Resolves at the next change. */
      async function changeOf(name: string): Promise<void> {
        const changed = deferred();
        const cleanup = store.watch(name, () => {
          changed.resolve();
        });
        await within(5000, `a change of ${name}`, changed.promise);
        cleanup();
      }

      it("tells of an append, a seal and a delete, also of a stream that is made later", async () => {
        for (const change of [() => append("s", "a"), () => append("s", "b"), () => store.seal("s")]) {
          const changed = changeOf("s");
          await change();
          await changed;
        }
        const deleted = changeOf("s");
        await store.delete("s");
        await deleted;
      });

      it("are told when all that became durable with their stream's change can be read", async () => {
        await append("a", "0");
        await append("b", "0");
        const appenders = await Promise.all(["a", "b"].map((stream) => store.openAppender({ stream })));
        const seen: Promise<number>[] = [];
        const stops = ["a", "b"].map((name) =>
          store.watch(name, () => {
            const other = name === "a" ? "b" : "a";
            seen.push(store.get(name).then(({ tail }) => tail));
            if (store.durability === "disk") seen.push(store.get(other).then(({ tail }) => tail));
          }),
        );
        await Promise.all(appenders.map((appender) => appender.append({ records: records("1") })));
        for (const stop of stops) stop();
        const tails = await Promise.all(seen);
        expect(tails.length).toBeGreaterThan(1);
        expect(new Set(tails)).toEqual(new Set([2]));
      });

      it("tells nothing after the cleanup, and nothing of other streams", async () => {
        let told = 0;
        const cleanup = store.watch("s", () => told++);
        await append("other", "a");
        expect(told).toBe(0);
        await append("s", "a");
        await until(5000, "the change", () => told === 1);
        cleanup();
        const changed = changeOf("s");
        await append("s", "b");
        await changed;
        expect(told).toBe(1);
      });

      it("shows each listener, of many, what it is told of", async () => {
        const count = 300;
        const seen = new Array<number>(count).fill(0);
        const cleanups = seen.map((_, i) =>
          store.watch("s", () => {
            void store.read("s", seen[i] ?? 0, all).then(({ nextSeq }) => (seen[i] = nextSeq));
          }),
        );
        for (let i = 0; i < 20; i++) await append("s", String(i));
        await until(5000, "all records at every listener", () => seen.every((seq) => seq === 20));
        for (const cleanup of cleanups) cleanup();
      });

      describe("while a change is on its way", () => {
        const options = { stream: "s", createIfMissing: true };
        const blocked = new Int32Array(new SharedArrayBuffer(4));

        /**
         * Looks when a change is durable, most likely, and the event loop has not heard of it: timers come before what other
         * threads have to say. LMDB's snapshot is from the turn of the event loop, and so a new one.
         */
        async function midway<T>(change: () => Promise<unknown>, look: () => Promise<T>): Promise<T> {
          const cleanup = store.watch("s", () => undefined);
          const changing = change();
          // The commit begins in the first of these turns.
          for (let i = 0; i < 2; i++) await new Promise(setImmediate);
          const turn = new Promise((resolve) => setTimeout(resolve, 0));
          Atomics.wait(blocked, 0, 0, 50);
          await turn;
          const seen = await look();
          await within(10_000, "the end of the change", changing);
          cleanup();
          return seen;
        }

        it("shows no older state to a later look, whatever it looks with", async () => {
          await append("s", "a");
          const change = (): Promise<unknown> => store.append(options, { records: records("b", "c") });
          const tails = await midway(change, async () => {
            const { tail } = await store.openAppender(options);
            const listed = await store.list({ limit: 1 });
            const read = await store.read("s", 0, all);
            return [tail, listed[0]?.tail, read.nextSeq, read.info.tail, (await store.get("s")).tail];
          });
          expect(tails).toEqual([...tails].sort());
          const found = await midway(
            () => store.delete("s"),
            async () => [
              await problem(store.openAppender({ stream: "s" })),
              await problem(store.read("s", 0, all)),
              await problem(store.get("s")),
            ],
          );
          expect(found).toEqual([...found].sort());
        });

        it("skips no record that is removed meanwhile: they are there, or out of range", async () => {
          for (let i = 0; i < 5; i++) await append("s", String(i));
          const look = (): Promise<string> =>
            textsFrom(store, "s", 0).then(
              (texts) => texts.join(),
              (error: unknown) => (isDomainError(error) ? error.problem.kind : Promise.reject(error as Error)),
            );
          const found = await midway(() => store.trim("s", 3), look);
          expect(["0,1,2,3,4", "position-out-of-range"]).toContain(found);
        });
      });

      it("leaves reads as they are, whether records are appended, trimmed, or the stream is made again", async () => {
        const cleanup = store.watch("s", () => undefined);
        const texts: string[] = [];
        for (let i = 0; i < 150; i++) {
          texts.push(String(i), "");
          await append("s", String(i), "");
          for (const seq of [i * 2, i * 2 + 1, Math.max(0, i * 2 - 70), 0]) {
            expect(await textsFrom(store, "s", seq)).toEqual(texts.slice(seq));
          }
        }
        await store.trim("s", 290);
        expect(await problem(store.read("s", 289, all))).toBe("position-out-of-range");
        expect(await textsFrom(store, "s", 291)).toEqual(texts.slice(291));
        await store.delete("s");
        expect(await problem(store.read("s", 0, all))).toBe("stream-not-found");
        await append("s", "new");
        expect(await textsFrom(store, "s", 0)).toEqual(["new"]);
        cleanup();
      });

      it("misses nothing between a read and the wait", async () => {
        await store.create("s");
        const seen: string[] = [];
        const follow = async (): Promise<void> => {
          let changed = deferred();
          const cleanup = store.watch("s", () => {
            changed.resolve();
          });
          for (let seq = 0; seq < 100;) {
            const { batches, nextSeq } = await store.read("s", seq, all);
            for (const batch of batches) for (const { data } of batch.records) seen.push(Buffer.from(data).toString());
            seq = nextSeq;
            if (seq < 100) await changed.promise;
            changed = deferred();
          }
          cleanup();
        };
        const following = follow();
        const appender = await store.openAppender({ stream: "s" });
        for (let i = 0; i < 100; i++) await appender.append({ records: records(String(i)) });
        await within(10_000, "the end", following);
        expect(seen).toEqual(Array.from({ length: 100 }, (_, i) => String(i)));
      });
    });

    describe("trim and retention", () => {
      it("remove from the head; the tail stays, and reading below the head is an error", async () => {
        await append("s", "0", "1", "2");
        await append("s", "3", "4");
        await expect(store.trim("s", 1)).resolves.toMatchObject({ head: 1, tail: 5, bytes: 4 });
        expect(await textsFrom(store, "s", 1)).toEqual(["1", "2", "3", "4"]);
        expect(await problem(store.read("s", 0, all))).toBe("position-out-of-range");
        await expect(store.trim("s", 0)).resolves.toMatchObject({ head: 1 });
        await expect(store.trim("s", 4)).resolves.toMatchObject({ head: 4, bytes: 1 });
        expect(await problem(store.trim("s", 6))).toBe("position-out-of-range");
        await expect(store.trim("s", 5)).resolves.toMatchObject({ head: 5, tail: 5, bytes: 0 });
        await append("s", "5");
        expect(await textsFrom(store, "s", 5)).toEqual(["5"]);
        expect((await store.get("s")).bytes).toBe(1);
      });

      it("removes many batches at once", async () => {
        const appender = await store.openAppender({ stream: "s", createIfMissing: true });
        await Promise.all(Array.from({ length: 1700 }, (_, i) => appender.append({ records: records(`${i}`, "") })));
        await expect(store.trim("s", 3301)).resolves.toMatchObject({ head: 3301, tail: 3400 });
        expect((await textsFrom(store, "s", 3301)).slice(0, 3)).toEqual(["", "1651", ""]);
      });

      it("made while the records are on their way leave what is behind them, and the right size", async () => {
        await store.create("s");
        const appender = await store.openAppender({ stream: "s" });
        for (let i = 0; i < 20; i++) {
          const appended = appender.append({ records: records("abc", "def") });
          const trimmed = store.trim("s", i * 2 + 1).catch(async () => {
            await appended;
            return store.trim("s", i * 2 + 1);
          });
          await appended;
          expect(await trimmed).toMatchObject({ head: i * 2 + 1, tail: i * 2 + 2, bytes: 3 });
        }
        await store.trim("s", 40);
        expect(await store.get("s")).toMatchObject({ head: 40, tail: 40, bytes: 0 });
      });

      it("end with the signal", async () => {
        await append("s", "a");
        const stopped = AbortSignal.abort(new Error("enough"));
        await expect(store.trim("s", 1, { signal: stopped })).rejects.toThrow("enough");
        await expect(store.sweep(nowMs, stopped)).rejects.toThrow("enough");
        await expect(store.list({ limit: 10 }, stopped)).rejects.toThrow("enough");
        expect((await store.get("s")).head).toBe(0);
      });

      it("can be given other limits, which take effect", async () => {
        await store.create("s", { maxBytes: 1000, maxAgeMs: 60_000 });
        for (const text of ["a", "b", "c", "d"]) await append("s", text);
        const change = { maxRecords: 2, maxAgeMs: 0 };
        expect((await store.update("s", change)).retention).toEqual({ maxBytes: 1000, maxRecords: 2 });
        await until(10_000, "the limit's effect", async () => (await store.get("s")).head === 2);
        await append("s", "e");
        await until(10_000, "the limit's effect", async () => (await store.get("s")).head === 3);
        expect((await store.update("s", { maxBytes: 0, maxRecords: 0 })).retention).toEqual({});
        for (const text of ["f", "g", "h"]) await append("s", text);
        nowMs += 120_000;
        await store.sweep(nowMs);
        expect(await store.get("s")).toMatchObject({ head: 3, tail: 8, retention: {} });
        // A sweep looks at a stream that had none when it was made.
        await store.update("s", { maxAgeMs: 1000 });
        await until(10_000, "the limit's effect", async () => (await store.get("s")).head === 7);
        expect(await problem(store.update("absent", {}))).toBe("stream-not-found");
        expect(await problem(store.update("s", {}, { expectedUid: "another" }))).toBe("stream-replaced");
      });

      it("keep nothing that is too old, however much it is", async () => {
        await store.create("s", { maxAgeMs: 1000 });
        const appender = await store.openAppender({ stream: "s" });
        await Promise.all(Array.from({ length: 2500 }, (_, i) => appender.append({ records: records(String(i)) })));
        nowMs += 1001;
        await append("s", "new");
        await store.sweep(nowMs);
        expect(await store.get("s")).toMatchObject({ head: 2500, tail: 2501, bytes: 3 });
      });

      it("remove by age what was stored while the clock was ahead, once it is right again", async () => {
        const year = 365 * 86_400_000;
        await store.create("s", { maxAgeMs: 1000 });
        await append("s", "before");
        nowMs += 10 * year;
        await append("s", "ahead");
        nowMs -= 10 * year;
        await append("s", "after");
        // What readers see never goes backwards.
        const { batches } = await store.read("s", 1, all);
        expect(batches.map(({ timeMs }) => timeMs - nowMs)).toEqual([10 * year, 10 * year]);
        nowMs += 1001;
        await store.sweep(nowMs);
        // From when the clock was right, the record of the time when it was not is as old as its neighbours at most.
        nowMs += 1001;
        await append("s", "newest");
        await store.sweep(nowMs);
        expect(await store.get("s")).toMatchObject({ head: 3, tail: 4 });
        nowMs += 1001;
        await append("s", "last");
        await store.sweep(nowMs);
        expect(await textsFrom(store, "s", 4)).toEqual(["last"]);
        expect(await store.get("s")).toMatchObject({ head: 4 });
      });

      it("let records age that were stored while the clock was ahead, and behind which nothing came for long", async () => {
        await store.create("s", { maxAgeMs: 1000 });
        nowMs += 1e12;
        for (const text of ["a", "b", "c"]) await append("s", text);
        nowMs -= 1e12;
        for (let sweeps = 0; sweeps < 3; sweeps++) {
          await store.sweep(nowMs);
          expect(await store.get("s")).toMatchObject({ head: 0 });
          nowMs += 400;
        }
        await store.sweep(nowMs);
        expect(await store.get("s")).toMatchObject({ head: 2, tail: 3 });
      });

      it("forget a producer that was used while the clock was ahead", async () => {
        const producer = { id: "p", epoch: 0 };
        nowMs += 1e12;
        const appender = await store.openAppender({ stream: "s", createIfMissing: true, producer });
        await appender.append({ records: records("a"), producerSeq: 0 });
        appender.close();
        nowMs -= 1e12;
        await store.sweep(nowMs);
        expect((await store.openAppender({ stream: "s", producer })).nextProducerSeq).toBe(1);
      });

      it("keep whole batches by records, by bytes, by age, and always the newest", async () => {
        const settled = async (name: string, head: number) => {
          await until(5000, `the head ${head} of ${name}`, async () => (await store.get(name)).head === head);
        };
        await store.create("records", { maxRecords: 4 });
        await store.create("bytes", { maxBytes: 6 });
        await store.create("age", { maxAgeMs: 1000 });
        for (const name of ["records", "bytes", "age"]) {
          await append(name, "aa", "bb");
          await append(name, "cc", "dd");
        }
        nowMs += 1001;
        for (const name of ["records", "bytes", "age"]) await append(name, "ee");
        await store.sweep(nowMs);
        await settled("records", 2);
        await settled("bytes", 2);
        await settled("age", 4);
        await append("records", "1", "2", "3", "4", "5", "6");
        await append("bytes", "a long record");
        nowMs += 2000;
        await store.sweep(nowMs);
        await settled("records", 5);
        await settled("bytes", 5);
        await settled("age", 4);
        expect(await textsFrom(store, "age", 4)).toEqual(["ee"]);
        expect((await store.get("bytes")).bytes).toBe("a long record".length);
      });
    });
  });
}
