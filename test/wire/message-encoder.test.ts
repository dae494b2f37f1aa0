import { create, equals, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescMessage, Message, MessageInitShape } from "@bufbuild/protobuf";
import {
  AnySchema,
  FileDescriptorProtoSchema,
  TimestampSchema,
  ValueSchema,
  anyPack,
  file_google_protobuf_struct,
} from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DoubleRulesSchema, FieldRulesSchema, FloatRulesSchema } from "../../gen/buf/validate/validate_pb.ts";
import { ExchangeRequestSchema, RecordBatchSchema, StreamSchema } from "../../gen/data/v1/data_pb.ts";
import { ByteSink } from "../../src/wire/byte-sink.ts";
import { compileEncoder } from "../../src/wire/message-encoder.ts";
import { exchangeRequests, recordBatches, timestamps } from "./arbitrary-messages.ts";

/** What the encoder makes of the message, after something else in the same sink; undefined if it leaves it to protobuf-es. */
function encode(desc: DescMessage, message: Message, sink = new ByteSink()): Uint8Array | undefined {
  sink.beginItem();
  const known = compileEncoder(desc)(sink, message);
  return known ? sink.bytes.slice(sink.begin, sink.pos) : undefined;
}

const kinds: readonly (readonly [string, DescMessage, fc.Arbitrary<object>])[] = [
  ["RecordBatch", RecordBatchSchema, recordBatches],
  ["ExchangeRequest", ExchangeRequestSchema, exchangeRequests],
  ["Timestamp", TimestampSchema, timestamps],
  [
    "DoubleRules",
    DoubleRulesSchema,
    fc.record(
      {
        const: fc.double(),
        lessThan: fc.record({ case: fc.constant("lt"), value: fc.double() }),
        finite: fc.boolean(),
      },
      { requiredKeys: [] },
    ),
  ],
  ["FloatRules", FloatRulesSchema, fc.record({ const: fc.float(), finite: fc.boolean() }, { requiredKeys: [] })],
];

describe("an encoder", () => {
  for (const [name, desc, arbitrary] of kinds) {
    it(`writes ${name} as protobuf-es does`, () => {
      const sink = new ByteSink();
      fc.assert(
        fc.property(arbitrary, (init) => {
          const message = create(desc, init as MessageInitShape<DescMessage>);
          const encoded = encode(desc, message, sink);
          expect(encoded).toBeDefined();
          expect(encoded).toEqual(toBinary(desc, message));
        }),
        { numRuns: 300 },
      );
    });
  }

  it("writes what it knows only in parts, and messages in themselves", () => {
    const file = file_google_protobuf_struct.proto;
    const encoded = encode(FileDescriptorProtoSchema, file);
    expect(
      equals(FileDescriptorProtoSchema, fromBinary(FileDescriptorProtoSchema, encoded ?? new Uint8Array()), file),
    ).toBe(true);
    const value = create(ValueSchema, {
      kind: {
        case: "listValue",
        value: {
          values: [{ kind: { case: "numberValue", value: -0 } }, { kind: { case: "stringValue", value: "é" } }],
        },
      },
    });
    expect(encode(ValueSchema, value)).toEqual(toBinary(ValueSchema, value));
    const any = anyPack(ValueSchema, value);
    expect(encode(AnySchema, any)).toEqual(toBinary(AnySchema, any));
    const rules = create(FieldRulesSchema, { type: { case: "string", value: { minLen: 3n, in: ["a", "b"] } } });
    expect(encode(FieldRulesSchema, rules)).toEqual(toBinary(FieldRulesSchema, rules));
  });

  it("leaves to protobuf-es what is not as it should be, so that its errors are the same", () => {
    const info = create(StreamSchema, { name: "s" });
    for (const wrong of [
      { ...info, name: 5 },
      { ...info, tail: -1n },
      { ...info, tail: 2n ** 64n },
      { ...info, tail: "7" },
      { ...info, sealed: "yes" },
      { ...info, $typeName: "other.Message" },
    ]) {
      expect(encode(StreamSchema, wrong as unknown as Message)).toBeUndefined();
    }
  });

  it("leaves messages with unknown fields to protobuf-es, which passes them on", () => {
    const message = fromBinary(TimestampSchema, new Uint8Array([8, 1, 0x98, 0x06, 1]));
    expect(message.$unknown).toHaveLength(1);
    expect(encode(TimestampSchema, message)).toBeUndefined();
  });
});
