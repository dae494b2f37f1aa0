import fc from "fast-check";

export const streamNames = ["a", "b"] as const;
const name = fc.constantFrom(...streamNames);
/** Mostly what fits; sometimes what is a little off. */
const nearby = fc.oneof(
  { weight: 20, arbitrary: fc.constant(0) },
  { weight: 3, arbitrary: fc.constantFrom(-2, -1, 1) },
);
const position = fc.integer({ min: -1, max: 12 });
const texts = fc.array(fc.string({ unit: fc.constantFrom("x", "y", "z"), minLength: 1, maxLength: 4 }), {
  maxLength: 4,
});
const checksum = fc.constantFrom(
  undefined,
  { sha256: Buffer.alloc(32, 1), firstSeq: 0 },
  { sha256: Buffer.alloc(32, 2), firstSeq: 0 },
);
/** Present in one case of so many. */
function seldom<T>(cases: number, arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> {
  return fc.oneof({ weight: cases - 1, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary });
}

/** What to do next. Positions are relative to the tail, producer_seqs to the next one, so that many fit. */
const operation = fc.oneof(
  { weight: 2, arbitrary: fc.record({ op: fc.constant("create"), name }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("delete"), name }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("trim"), name, behind: position }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("seal"), name, expected: seldom(3, nearby), checksum }) },
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant("open"),
      slot: fc.nat(2),
      name,
      createIfMissing: fc.constantFrom(true, true, false),
      expected: seldom(3, nearby),
      producer: seldom(2, fc.record({ id: fc.constantFrom("p", "p", "q"), epoch: fc.constantFrom(0, 0, 0, 1, 2) })),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("claim"), name, id: fc.constantFrom("p", "q") }) },
  {
    weight: 10,
    arbitrary: fc.record({
      op: fc.constant("append"),
      slot: fc.nat(2),
      // In flight together.
      batches: fc.array(
        fc.record({
          texts,
          seq: nearby,
          seal: seldom(25, fc.record({ expected: seldom(3, nearby), checksum })),
        }),
        { minLength: 1, maxLength: 4 },
      ),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant("read"),
      name,
      behind: position,
      maxRecords: fc.integer({ min: 1, max: 9 }),
      maxBytes: fc.nat(30),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("seqAtTime"), name, ms: fc.integer({ min: -3, max: 3 }) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("tick"), ms: fc.integer({ min: -2, max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("reopen") }) },
);
export type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

export const operations = fc.array(operation, { minLength: 10, maxLength: 60, size: "max" });
