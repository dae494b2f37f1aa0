import fc from "fast-check";

const bytes = fc.oneof(fc.uint8Array({ maxLength: 20 }), fc.uint8Array({ minLength: 100, maxLength: 400 }));
const text = fc.oneof(
  fc.string({ maxLength: 200, unit: "binary" }),
  fc.string({ maxLength: 40, unit: "grapheme-ascii" }),
);
const uint64 = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.bigInt({ min: 0n, max: 300n }));
const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const headers = fc.dictionary(text, text, { maxKeys: 4 });
const record = fc.record({ headers, data: bytes });
export const timestamps = fc.record({ seconds: int64, nanos: fc.integer() });

/** What `create` takes for a RecordBatch. */
export const recordBatches: fc.Arbitrary<object> = fc.record(
  {
    firstSeq: uint64,
    time: fc.option(timestamps, { nil: undefined }),
    records: fc.array(record, { maxLength: 40 }),
  },
  { requiredKeys: [] },
);

/** What `create` takes for an ExchangeRequest. */
export const exchangeRequests: fc.Arbitrary<object> = fc.oneof(
  fc.record({
    message: fc.record({
      case: fc.constant("append"),
      value: fc.record({ records: fc.array(record), producerSeq: uint64, seal: fc.boolean(), sha256: bytes }),
    }),
  }),
  fc.record({
    message: fc.record({
      case: fc.constant("open"),
      value: fc.record(
        {
          stream: text,
          createIfMissing: fc.boolean(),
          expectedSeq: uint64,
          producer: fc.record({ id: text, epoch: uint64 }),
        },
        { requiredKeys: [] },
      ),
    }),
  }),
);
