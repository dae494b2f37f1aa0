import { create, fromBinary, fromJsonString, toBinary } from "@bufbuild/protobuf";
import type { DescMessage } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, ListValueSchema, StructSchema } from "@bufbuild/protobuf/wkt";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { AppendRequestSchema, RecordSchema } from "../../gen/data/v1/data_pb.ts";
import { compileJsonWeight } from "../../src/wire/json-weight.ts";
import { compileWeight } from "../../src/wire/message-weight.ts";

// The costs in src/wire/message-weight.ts and json-weight.ts were chosen with this:
// `npx vitest run test/wire/message-weight.test.ts` prints what messages take, and what they were taken to.

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as () => void;

const count = 50_000;

/** Bytes that what `make` returns takes. */
function measure(make: () => unknown): number {
  const taken = (): number => {
    gc();
    gc();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  // What is made once, such as code.
  make();
  const before = taken();
  const made = make();
  const after = taken();
  // Keeps it until now.
  expect(made).toBeDefined();
  return after - before;
}

function repeated(bytes: readonly number[]): Uint8Array {
  return new Uint8Array(Buffer.alloc(bytes.length * count, Buffer.from(bytes)));
}

function names(prefix: string): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}${i}`);
}

const binary: readonly [name: string, desc: DescMessage, payload: Uint8Array][] = [
  ["empty records", AppendRequestSchema, repeated([0x12, 0])],
  ["records with a byte", AppendRequestSchema, repeated([0x12, 3, 0x12, 1, 65])],
  ["records with a header", AppendRequestSchema, repeated([0x12, 8, 0x0a, 6, 0x0a, 1, 65, 0x12, 1, 66])],
  [
    "headers",
    RecordSchema,
    toBinary(RecordSchema, create(RecordSchema, { headers: Object.fromEntries(names("name").map((n) => [n, n])) })),
  ],
  ["strings", FileDescriptorProtoSchema, repeated([0x1a, 1, 65])],
  [
    "longer strings",
    FileDescriptorProtoSchema,
    toBinary(FileDescriptorProtoSchema, create(FileDescriptorProtoSchema, { dependency: names("a longer name ") })),
  ],
  ["numbers", FileDescriptorProtoSchema, repeated([0x50, 1])],
  ["messages with lists", FileDescriptorProtoSchema, repeated([0x22, 0])],
  ["values", ListValueSchema, repeated([0x0a, 2, 0x08, 0])],
];

const json: readonly [name: string, desc: DescMessage, payload: string][] = [
  ["records", AppendRequestSchema, JSON.stringify({ records: names("").map(() => ({})) })],
  ["records with data", AppendRequestSchema, JSON.stringify({ records: names("").map(() => ({ data: "QUFB" })) })],
  ["headers", RecordSchema, JSON.stringify({ headers: Object.fromEntries(names("name").map((n) => [n, n])) })],
  ["names of a struct", StructSchema, JSON.stringify(Object.fromEntries(names("name").map((n) => [n, 0])))],
  ["values", ListValueSchema, JSON.stringify(names("").map(() => null))],
  ["objects", ListValueSchema, JSON.stringify(names("name").map((n) => ({ [n]: n })))],
];

/** An estimate that is too low lets the process run out of memory; one that is far too high refuses calls for nothing. */
function expectClose(name: string, weight: number, taken: number): void {
  process.stdout.write(`${name}: ${Math.round(taken / count)} bytes each, ${Math.round(weight / count)} estimated\n`);
  expect(weight).toBeGreaterThan(taken * 0.9);
  expect(weight).toBeLessThan(taken * 8);
}

describe("the estimate of what a message takes", () => {
  it.each(binary)("covers %s", (name, desc, payload) => {
    const weight = compileWeight(desc, Infinity)(payload);
    const taken = measure(() => [fromBinary(desc, payload.slice(), { readUnknownFields: false })]);
    expectClose(name, weight, taken);
  });

  it.each(json)("covers %s in JSON", (name, desc, payload) => {
    const weight = compileJsonWeight(desc, Infinity)(new TextEncoder().encode(payload));
    // While the message is made, what JSON.parse has made is there too.
    const taken = measure(() => [fromJsonString(desc, payload), JSON.parse(payload) as unknown]);
    expectClose(`${name} in JSON`, weight, taken);
  });
});
