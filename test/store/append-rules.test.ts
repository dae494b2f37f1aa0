import { describe, expect, it } from "vitest";
import { isDomainError } from "../../src/errors.ts";
import { checkRepeat, digestOf, judge, nextEpoch, producerWindow, seal } from "../../src/store/append-rules.ts";
import type { AppendCheck, ProducerState } from "../../src/store/append-rules.ts";
import { encodeBatch } from "../../src/store/lmdb-codec.ts";
import type { StoredRecord, StreamInfo } from "../../src/store/store.ts";

function record(text: string, headers: Record<string, string> = {}): StoredRecord {
  return { data: Buffer.from(text), headers };
}

const info: StreamInfo = {
  name: "s",
  uid: "uid",
  head: 2,
  tail: 10,
  bytes: 100,
  sealed: false,
  createTimeMs: 1000,
  retention: {},
};
const producer = { id: "p", epoch: 3 };
const state: ProducerState = { epoch: 3, nextProducerSeq: 5, firstSeq: 2, lastTimeMs: 0 };
const check: AppendCheck = {
  info,
  input: { records: [record("a")] },
  producer: undefined,
  state: undefined,
  expectedSeq: undefined,
  nowMs: 2000,
};

/** The problem that the work throws; undefined if it succeeds. */
function problemOf(work: () => unknown): object | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    if (isDomainError(error)) return error.problem;
    throw error;
  }
}

describe("a digest", () => {
  it("is 16 hexadecimal digits, the same whether the batch is encoded already", () => {
    for (const records of [[], [record("a", { k: "v" })], [record("a", { b: "1", a: "2" }), record("b")]]) {
      const encoded = records.length === 0 ? undefined : encodeBatch([7, 9], { timeMs: 5, arrivalMs: 6 }, records);
      const digest = digestOf({ records });
      expect(digest).toMatch(/^[0-9a-f]{16}$/);
      expect(digestOf({ records }, encoded)).toBe(digest);
    }
  });

  it("does not depend on the order of headers, in any of the records", () => {
    const one = { records: [record("x", { a: "1", b: "2", c: "3" }), record("y", { d: "4" })] };
    const other = { records: [record("x", { c: "3", a: "1", b: "2" }), record("y", { d: "4" })] };
    const encoded = encodeBatch([1, 1], { timeMs: 1, arrivalMs: 1 }, other.records);
    expect(digestOf(other)).toBe(digestOf(one));
    expect(digestOf(other, encoded)).toBe(digestOf(one));
  });

  it("differs with the data, the headers, the order of the records, and a seal", () => {
    const inputs = [
      { records: [record("a"), record("b")] },
      { records: [record("b"), record("a")] },
      { records: [record("ab")] },
      { records: [record("a", { k: "v" }), record("b")] },
      { records: [record("a", { v: "k" }), record("b")] },
      { records: [record("a"), record("b")], seal: {} },
    ];
    expect(new Set(inputs.map((input) => digestOf(input))).size).toBe(inputs.length);
    expect(digestOf(inputs[5] as (typeof inputs)[0])).toBe(`${digestOf(inputs[0] as (typeof inputs)[0])}+seal`);
  });

  it("of a repeat is compared with the stored one, unless an earlier version stored none", () => {
    const repeat = { ...check, producer, state, input: { records: [], producerSeq: 4 } };
    expect(problemOf(() => checkRepeat(repeat, "x", "x"))).toBeUndefined();
    expect(problemOf(() => checkRepeat(repeat, undefined, "x"))).toBeUndefined();
    expect(problemOf(() => checkRepeat(repeat, "x", "y"))).toEqual({
      kind: "producer-conflict",
      stream: "s",
      producer: "p",
      producerSeq: 4,
      nextProducerSeq: 5,
    });
  });
});

describe("an append", () => {
  it("is stored behind the tail, at a time that never goes backwards", () => {
    const stored = { kind: "store", firstSeq: 10, nextSeq: 11, bytes: 1 };
    expect(judge(check)).toEqual({ ...stored, timeMs: 2000 });
    expect(judge({ ...check, nowMs: 500 })).toEqual({ ...stored, timeMs: 1000 });
    expect(judge({ ...check, info: { ...info, appendTimeMs: 9000 } })).toEqual({ ...stored, timeMs: 9000 });
  });

  it("of a producer is next, a repeat, too old a repeat, or a gap, by its number", () => {
    const of = (producerSeq: number, next = 5): AppendCheck => ({
      ...check,
      producer,
      state: { ...state, nextProducerSeq: next },
      input: { ...check.input, producerSeq },
    });
    expect(judge(of(5))).toMatchObject({ kind: "store" });
    expect(judge(of(4))).toEqual({ kind: "duplicate", producerSeq: 4 });
    expect(judge(of(0))).toEqual({ kind: "duplicate", producerSeq: 0 });
    expect(problemOf(() => judge(of(6)))).toMatchObject({ kind: "producer-gap", nextProducerSeq: 5 });
    expect(judge(of(100, 100 + producerWindow))).toMatchObject({ kind: "duplicate" });
    expect(problemOf(() => judge(of(99, 100 + producerWindow)))).toMatchObject({ kind: "producer-repeat-too-old" });
    // A higher epoch begins at 0, and a lower one is fenced, whatever its number.
    const higher = { ...of(0), producer: { id: "p", epoch: 4 } };
    expect(judge(higher)).toMatchObject({ kind: "store" });
    expect(problemOf(() => judge({ ...higher, input: { ...check.input, producerSeq: 5 } }))).toMatchObject({
      kind: "producer-gap",
      nextProducerSeq: 0,
    });
    for (const producerSeq of [0, 4, 5]) {
      const lower = { ...of(producerSeq), producer: { id: "p", epoch: 2 } };
      expect(problemOf(() => judge(lower))).toMatchObject({ kind: "producer-fenced", epoch: 2, currentEpoch: 3 });
    }
  });

  it("is refused on a sealed stream, but for a repeat", () => {
    const sealed = { ...check, info: { ...info, sealed: true } };
    expect(problemOf(() => judge(sealed))).toMatchObject({ kind: "stream-sealed", head: 2, tail: 10 });
    const repeat = { ...sealed, producer, state, input: { ...check.input, producerSeq: 4 }, expectedSeq: 3 };
    expect(judge(repeat)).toMatchObject({ kind: "duplicate" });
  });

  it("may expect a tail, and its seal another", () => {
    expect(judge({ ...check, expectedSeq: 10 })).toMatchObject({ kind: "store" });
    expect(problemOf(() => judge({ ...check, expectedSeq: 9 }))).toMatchObject({ kind: "seq-mismatch", expected: 9 });
    const sealing = (expectedSeq: number): AppendCheck => ({ ...check, input: { records: [], seal: { expectedSeq } } });
    expect(judge(sealing(10))).toMatchObject({ kind: "store", nextSeq: 10 });
    expect(problemOf(() => judge(sealing(11)))).toMatchObject({ kind: "seq-mismatch", expected: 11, tail: 10 });
  });
});

describe("a seal", () => {
  const checksum = { sha256: Buffer.alloc(32, 1), firstSeq: 0 };

  it("keeps the checksum that it has, or gets", () => {
    expect(seal(info, {})).toEqual({ ...info, sealed: true });
    expect("checksum" in seal(info, {})).toBe(false);
    const sealed = seal(info, { expectedSeq: 10, checksum });
    expect(sealed).toEqual({ ...info, sealed: true, checksum });
    expect(seal(sealed, {})).toEqual(sealed);
    expect(seal(sealed, { checksum })).toEqual(sealed);
    expect(seal({ ...info, sealed: true }, { checksum })).toEqual(sealed);
  });

  it("is refused for another tail, or another checksum", () => {
    expect(problemOf(() => seal(info, { expectedSeq: 9 }))).toMatchObject({ kind: "seq-mismatch", expected: 9 });
    const other = { sha256: Buffer.alloc(32, 2), firstSeq: 0 };
    const sealed = seal(info, { checksum });
    expect(problemOf(() => seal(sealed, { checksum: other }))).toMatchObject({
      kind: "checksum-mismatch",
      firstSeq: 0,
    });
  });
});

it("an epoch is above all that were claimed or used, as far as there are any", () => {
  expect(nextEpoch(undefined, undefined)).toBe(1);
  expect(nextEpoch(7, undefined)).toBe(8);
  expect(nextEpoch(2, state)).toBe(4);
  expect(nextEpoch(9, state)).toBe(10);
  const most = Number.MAX_SAFE_INTEGER;
  expect(nextEpoch(most - 1, undefined)).toBe(most);
  expect(problemOf(() => nextEpoch(most, undefined))).toMatchObject({ kind: "invalid-argument" });
});
