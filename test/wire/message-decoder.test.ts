import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { AnySchema, FileDescriptorProtoSchema, ValueSchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ExchangeRequestSchema, RecordBatchSchema, StreamSchema } from "../../gen/data/v1/data_pb.ts";
import { compileDecoder } from "../../src/wire/message-decoder.ts";
import { exchangeRequests, recordBatches } from "./arbitrary-messages.ts";

function decoderOf(desc: DescMessage) {
  const decode = compileDecoder(desc);
  if (decode === undefined) throw new Error(`${desc.typeName} is left to protobuf-es`);
  return decode;
}

const kinds: readonly (readonly [string, DescMessage, fc.Arbitrary<object>])[] = [
  ["RecordBatch", RecordBatchSchema, recordBatches],
  ["ExchangeRequest", ExchangeRequestSchema, exchangeRequests],
];

describe("a decoder", () => {
  for (const [name, desc, arbitrary] of kinds) {
    const decode = decoderOf(desc);

    it(`reads ${name} as protobuf-es does, or leaves it`, () => {
      let read = 0;
      fc.assert(
        fc.property(arbitrary, (init) => {
          const bytes = toBinary(desc, create(desc, init as MessageInitShape<DescMessage>));
          const decoded = decode(bytes);
          if (decoded === undefined) return;
          read++;
          expect(decoded).toEqual(fromBinary(desc, bytes));
        }),
        { numRuns: 300 },
      );
      expect(read).toBeGreaterThan(30);
    });

    it(`reads nothing else into ${name} that is broken`, () => {
      fc.assert(
        fc.property(arbitrary, fc.nat(), fc.nat(255), fc.boolean(), (init, at, byte, cut) => {
          const bytes = toBinary(desc, create(desc, init as MessageInitShape<DescMessage>));
          const broken = cut ? bytes.subarray(0, at % (bytes.length + 1)) : Uint8Array.from(bytes);
          if (!cut && bytes.length > 0) broken[at % bytes.length] = byte;
          const decoded = decode(broken);
          // What is read here, protobuf-es reads too, and to the same.
          if (decoded !== undefined) expect(decoded).toEqual(fromBinary(desc, broken));
        }),
        { numRuns: 2000 },
      );
    });

    it(`makes nothing else of ${name} from garbage`, () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 60 }), (garbage) => {
          const decoded = decode(garbage);
          if (decoded !== undefined) expect(decoded).toEqual(fromBinary(desc, garbage));
        }),
        { numRuns: 2000 },
      );
    });
  }

  it("reads messages in themselves only so deep", () => {
    expect(compileDecoder(ValueSchema)).toBeUndefined();
    expect(compileDecoder(FileDescriptorProtoSchema)).toBeUndefined();
  });

  it("gives bytes as a view, as protobuf-es does", () => {
    const bytes = toBinary(AnySchema, create(AnySchema, { typeUrl: "t", value: new Uint8Array([1, 2, 3]) }));
    const decoded = decoderOf(AnySchema)(bytes) as Any | undefined;
    expect(decoded?.value.buffer).toBe(bytes.buffer);
  });

  it("leaves unknown fields, large numbers and repeated singular messages to protobuf-es", () => {
    const decode = decoderOf(StreamSchema);
    const named = toBinary(StreamSchema, create(StreamSchema, { name: "s" }));
    expect(decode(named)).toEqual(fromBinary(StreamSchema, named));
    expect(decode(new Uint8Array([...named, 0xfa, 0x0f, 0]))).toBeUndefined();
    const large = toBinary(StreamSchema, create(StreamSchema, { tail: 2n ** 60n }));
    expect(decode(large)).toBeUndefined();
    const retained = toBinary(StreamSchema, create(StreamSchema, { retention: {} }));
    expect(decode(retained)).toEqual(fromBinary(StreamSchema, retained));
    expect(decode(new Uint8Array([...retained, ...retained]))).toBeUndefined();
  });
});
