import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ByteSink } from "../../src/wire/byte-sink.ts";
import { EnvelopeParser, EnvelopeWriter } from "../../src/wire/envelope.ts";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { create, toBinary } from "@bufbuild/protobuf";
import { compileEncoder } from "../../src/wire/message-encoder.ts";
import { cut, envelopeOf } from "../support/envelopes.ts";

interface Envelope {
  readonly flags: number;
  readonly payload: Uint8Array;
}

const KiB = 1024;
const limit = 256 * KiB;

/** Mostly small, sometimes none, sometimes larger than what is allocated first or at a time. */
const size = fc.oneof(
  { weight: 4, arbitrary: fc.nat(40) },
  { weight: 1, arbitrary: fc.constantFrom(0, 4095, 4096, 4097, 8192, 8193) },
  { weight: 1, arbitrary: fc.nat(100 * KiB) },
);
const envelope = fc
  .record({ flags: fc.nat(255), size, fill: fc.nat(255) })
  .map(({ flags, size: length, fill }): Envelope => ({ flags, payload: pattern(length, fill) }));
/** Where to cut: lengths of chunks, over and over. Many of one byte, as a peer may send them. */
const cuts = fc.array(fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 20_000 })), {
  minLength: 1,
  maxLength: 8,
});

function pattern(length: number, fill: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => fill + i * 7);
}

function parserOf(maxMessageBytes: number, allocate?: (size: number) => Uint8Array<ArrayBuffer>): EnvelopeParser {
  return new EnvelopeParser({
    maxMessageBytes,
    truncated: Code.InvalidArgument,
    ...(allocate === undefined ? {} : { allocate }),
  });
}

function bodyOf(envelopes: readonly Envelope[]): Uint8Array {
  return Buffer.concat(envelopes.map(({ flags, payload }) => envelopeOf(payload, flags)));
}

function parse(chunks: Iterable<Uint8Array>, parser = parserOf(limit)): Envelope[] {
  const taken: Envelope[] = [];
  // A copy, because a payload may be a view, and a view must be right when it is given and not only later.
  for (const chunk of chunks)
    parser.push(chunk, (flags, payload) => taken.push({ flags, payload: new Uint8Array(payload) }));
  return taken;
}

/** The code and message of what `run` throws. */
function failure(run: () => unknown): { code: Code; message: string } {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(ConnectError);
    const { code, rawMessage } = ConnectError.from(error);
    return { code, message: rawMessage };
  }
  throw new Error("it did not fail");
}

describe("the parser of envelopes", () => {
  it("takes the same envelopes out of a body however it is cut", () => {
    fc.assert(
      fc.property(fc.array(envelope, { maxLength: 12 }), cuts, (envelopes, lengths) => {
        const parser = parserOf(limit, (n) => new Uint8Array(n).fill(0xee));
        expect(parse(cut(bodyOf(envelopes), lengths), parser)).toEqual(envelopes);
        expect(parser.pendingBytes).toBe(0);
        parser.end();
      }),
      { numRuns: 300 },
    );
  });

  it("gives every whole envelope of a chunk before it returns, as views of the chunk", () => {
    const chunk = bodyOf([1, 2, 3].map((n) => ({ flags: n, payload: pattern(n * 1000, n) })));
    const parser = parserOf(limit, () => {
      throw new Error("it allocates");
    });
    const buffers: unknown[] = [];
    parser.push(chunk, (_flags, payload) => buffers.push(payload.buffer));
    expect(buffers).toEqual([chunk.buffer, chunk.buffer, chunk.buffer]);
  });

  it("keeps nothing of a chunk that its owner writes again", () => {
    const envelopes = [0, 1, 700, 5000, 70_000].map((length) => ({ flags: 0, payload: pattern(length, 9) }));
    const taken: Envelope[] = [];
    const parser = parserOf(limit);
    for (const chunk of cut(bodyOf(envelopes), [333])) {
      const own = chunk.slice();
      parser.push(own, (flags, payload) => taken.push({ flags, payload: new Uint8Array(payload) }));
      own.fill(0xaa);
    }
    expect(taken).toEqual(envelopes);
  });

  it("keeps nothing of a chunk that is lent", () => {
    fc.assert(
      fc.property(fc.array(envelope, { maxLength: 12 }), cuts, (envelopes, lengths) => {
        const taken: Envelope[] = [];
        const parser = parserOf(limit);
        const lent = new Uint8Array(Math.max(0, ...lengths));
        for (const chunk of cut(bodyOf(envelopes), lengths)) {
          lent.set(chunk);
          parser.push(lent.subarray(0, chunk.byteLength), (flags, payload) => taken.push({ flags, payload }), true);
          lent.fill(0xaa);
        }
        expect(taken).toEqual(envelopes);
        expect(parser.pendingBytes).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  it("copies what is whole in a lent chunk into one piece of memory", () => {
    const sizes: number[] = [];
    const parser = parserOf(limit, (n) => {
      sizes.push(n);
      return new Uint8Array(n);
    });
    const whole = bodyOf([1, 20, 300].map((length) => ({ flags: 0, payload: pattern(length, 1) })));
    const chunk = Buffer.concat([whole, bodyOf([{ flags: 0, payload: pattern(4000, 2) }]).subarray(0, 105)]);
    parser.push(chunk, () => undefined, true);
    expect(sizes).toEqual([whole.byteLength, 4000]);
  });

  it("fails at the end of a body that is cut within an envelope, and only there", () => {
    fc.assert(
      fc.property(fc.array(envelope, { minLength: 1, maxLength: 5 }), cuts, fc.nat(), (envelopes, lengths, at) => {
        const body = bodyOf(envelopes);
        const kept = body.subarray(0, at % body.byteLength);
        let begin = 0;
        const whole = envelopes.filter(({ payload }) => (begin += 5 + payload.byteLength) <= kept.byteLength);
        const parser = parserOf(limit);
        expect(parse(cut(kept, lengths), parser)).toEqual(whole);
        const boundary = bodyOf(whole).byteLength === kept.byteLength;
        expect(parser.pendingBytes > 0).toBe(!boundary);
        if (boundary) parser.end();
        else {
          expect(
            failure(() => {
              parser.end();
            }),
          ).toEqual({ code: Code.InvalidArgument, message: "protocol error: incomplete envelope" });
        }
      }),
      { numRuns: 200 },
    );
  });

  for (const length of [1001, 0x7fffffff, 0x80000000, 0xffffffff]) {
    it(`refuses ${length} bytes at the prefix when 1000 are allowed, after what came before`, () => {
      const before = { flags: 0, payload: pattern(1000, 1) };
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(length, 1);
      const body = Buffer.concat([bodyOf([before]), prefix]);
      for (const lengths of [[1], [4], [1006], [body.byteLength]]) {
        let allocated = 0;
        const parser = parserOf(1000, (n) => {
          allocated += n;
          return new Uint8Array(n);
        });
        const taken: Envelope[] = [];
        expect(
          failure(() => {
            for (const chunk of cut(body, lengths)) {
              parser.push(chunk, (flags, payload) => taken.push({ flags, payload: new Uint8Array(payload) }));
            }
          }),
        ).toEqual({
          code: Code.ResourceExhausted,
          message: `message size ${length} is larger than configured readMaxBytes 1000`,
        });
        expect(taken).toEqual([before]);
        expect(allocated).toBeLessThanOrEqual(1000);
      }
    });
  }

  it("takes a message of exactly the limit", () => {
    const envelopes = [{ flags: 0, payload: pattern(1000, 1) }];
    expect(parse([bodyOf(envelopes)], parserOf(1000))).toEqual(envelopes);
  });

  it("allocates in proportion to what has arrived, whatever the length prefix promises", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 0xffffffff }), fc.nat(50_000), cuts, (promised, arrives, lengths) => {
        const body = Buffer.alloc(5 + Math.min(arrives, promised - 1));
        body.writeUInt32BE(promised, 1);
        let largest = 0;
        let total = 0;
        const parser = parserOf(0xffffffff, (n) => {
          largest = Math.max(largest, n);
          total += n;
          return new Uint8Array(n);
        });
        let arrived = 0;
        for (const chunk of cut(body, lengths)) {
          parser.push(chunk, () => undefined);
          arrived += chunk.byteLength;
          // Each is twice the one before or more: together they are within a factor of the last.
          const bound = Math.max(4096, 8 * arrived);
          if (largest > bound || largest > promised || total > 2 * bound) {
            throw new Error(`${arrived} bytes have arrived, ${total} were asked for, ${largest} of them at once`);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  it("allocates nothing for a prefix alone", () => {
    let asked = 0;
    const allocate = (n: number): Uint8Array<ArrayBuffer> => {
      asked += n;
      return new Uint8Array(n);
    };
    for (const lengths of [[1], [5], [3, 2]]) {
      const parser = parserOf(0xffffffff, allocate);
      for (const chunk of cut(new Uint8Array([0, 0xff, 0xff, 0xff, 0xff]), lengths)) {
        parser.push(chunk, () => undefined);
      }
      expect(parser.pendingBytes).toBe(5);
    }
    expect(asked).toBe(0);
  });
});

describe("the writer of envelopes", () => {
  it("writes what the parser takes, in few pieces", () => {
    const sink = new ByteSink((n) => new Uint8Array(n).fill(0xee));
    fc.assert(
      fc.property(fc.array(envelope, { maxLength: 40 }), (envelopes) => {
        const writer = new EnvelopeWriter(sink);
        for (const { flags, payload } of envelopes) writer.add(flags, payload);
        const body = bodyOf(envelopes);
        expect(writer.byteLength).toBe(body.byteLength);
        const { pieces, release } = writer.take();
        expect(Buffer.concat(pieces).equals(body)).toBe(true);
        expect(pieces.length).toBeLessThanOrEqual(16);
        release();
        expect(writer.byteLength).toBe(0);
        expect(writer.take().pieces).toEqual([]);
      }),
      { numRuns: 200 },
    );
  });

  it("does not copy large payloads, and joins small ones", () => {
    const writer = new EnvelopeWriter(new ByteSink());
    const large = pattern(64 * KiB, 1);
    for (let i = 0; i < 10; i++) writer.add(0, pattern(10, i));
    writer.add(0, large);
    const { pieces } = writer.take();
    expect(pieces).toHaveLength(2);
    expect(pieces[1]).toBe(large);
  });

  it("leaves no trace of a message that the encoder gives up", () => {
    const writer = new EnvelopeWriter(new ByteSink());
    const desc = FileDescriptorProtoSchema;
    const encode = compileEncoder(desc);
    const good = create(desc, { name: "good", dependency: ["a", "b"] });
    const bad = { ...create(desc, { name: "x".repeat(20_000) }), dependency: [5] };
    expect(writer.addMessage(0, good, encode)).toBe(true);
    expect(writer.addMessage(0, bad as never, encode)).toBe(false);
    expect(writer.addMessage(3, good, encode)).toBe(true);
    const bytes = toBinary(desc, good);
    const body = bodyOf([
      { flags: 0, payload: bytes },
      { flags: 3, payload: bytes },
    ]);
    expect(writer.byteLength).toBe(body.byteLength);
    expect(Buffer.concat(writer.take().pieces).equals(body)).toBe(true);
  });
});
