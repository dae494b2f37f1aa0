import { ScalarType, toBinary } from "@bufbuild/protobuf";
import type { DescField, DescMessage, Message } from "@bufbuild/protobuf";
import type { ByteSink } from "./byte-sink.ts";

/**
 * Writes a message to the end of the sink's item. False if it is one that only
 * protobuf-es knows how to treat, or knows why not; what was written is then void.
 */
export type MessageEncoder = (out: ByteSink, message: Message) => boolean;

/** Writes a value without its tag. */
type ValueEncoder = (out: ByteSink, value: unknown) => boolean;
type FieldEncoder = (out: ByteSink, message: Readonly<Record<string, unknown>>) => boolean;

const enum_ = ScalarType.INT32;
const wireVarint = 0;
const wire64 = 1;
const wireLength = 2;
const wire32 = 5;

/** `FeatureSet.FieldPresence`: https://protobuf.com/docs/descriptors#field-presence. */
const presenceExplicit = 1;
const presenceImplicit = 2;

const utf8 = new TextEncoder();

/**
 * An encoder for messages of the type. protobuf-es gives each message memory of
 * its own and a copy of it, which costs more than the encoding if messages are
 * small; this one writes many into the memory that is sent. It knows the common
 * kinds of fields: what has others, or values that need a second look, goes
 * through protobuf-es.
 */
export function compileEncoder(desc: DescMessage): MessageEncoder {
  return compileMessage(desc, new Map());
}

function compileMessage(desc: DescMessage, known: Map<DescMessage, MessageEncoder>): MessageEncoder {
  const before = known.get(desc);
  if (before !== undefined) return before;
  const { typeName } = desc;
  const fields: FieldEncoder[] = [];
  const encode: MessageEncoder = (out, message) => {
    // Some well-known types stand in messages as plain values.
    if (message.$typeName !== typeName || message.$unknown !== undefined) return false;
    for (const field of fields) {
      if (!field(out, message)) return false;
    }
    return true;
  };
  // Before its fields, because a message can contain itself.
  known.set(desc, encode);
  for (const field of [...desc.fields].sort((a, b) => a.number - b.number)) {
    const compiled = compileField(field, known);
    if (compiled === undefined) {
      const whole: MessageEncoder = (out, message) => {
        if (message.$typeName !== typeName) return false;
        writeBytes(out, toBinary(desc, message));
        return true;
      };
      known.set(desc, whole);
      // Messages that contain this one may have been compiled with the other already.
      fields.splice(0, fields.length, (out, message) => whole(out, message as unknown as Message));
      return whole;
    }
    fields.push(compiled);
  }
  return encode;
}

function compileField(field: DescField, known: Map<DescMessage, MessageEncoder>): FieldEncoder | undefined {
  const name = field.localName;
  if (field.fieldKind === "map") return compileMap(field);
  if (field.fieldKind === "list") {
    if (field.packed || (field.listKind === "message" && field.delimitedEncoding)) return undefined;
    const value = compileElement(field, known);
    if (value === undefined) return undefined;
    const { encode, wireType } = value;
    const tag = (field.number << 3) | wireType;
    return (out, message) => {
      for (const item of message[name] as readonly unknown[]) {
        writeVarint32(out, tag);
        if (!encode(out, item)) return false;
      }
      return true;
    };
  }
  if (field.fieldKind === "message" && field.delimitedEncoding) return undefined;
  const value = compileElement(field, known);
  if (value === undefined) return undefined;
  const { encode, wireType, isZero } = value;
  const tag = (field.number << 3) | wireType;
  if (field.oneof !== undefined) {
    const oneofName = field.oneof.localName;
    return (out, message) => {
      const oneof = message[oneofName] as { readonly case: string | undefined; readonly value: unknown };
      if (oneof.case !== name) return true;
      writeVarint32(out, tag);
      return encode(out, oneof.value);
    };
  }
  if ((field.presence as number) === presenceExplicit) {
    return (out, message) => {
      const present = message[name];
      if (present === undefined || !Object.hasOwn(message, name)) return true;
      writeVarint32(out, tag);
      return encode(out, present);
    };
  }
  if ((field.presence as number) !== presenceImplicit) return undefined;
  return (out, message) => {
    const present = message[name];
    if (isZero(present)) return true;
    writeVarint32(out, tag);
    return encode(out, present);
  };
}

/** `map<string, string>`, which is what headers are made of. */
function compileMap(field: DescField & { fieldKind: "map" }): FieldEncoder | undefined {
  if (field.mapKind !== "scalar" || field.mapKey !== ScalarType.STRING || field.scalar !== ScalarType.STRING) {
    return undefined;
  }
  const name = field.localName;
  const tag = (field.number << 3) | wireLength;
  const entry = lengthDelimited((out, value) => {
    const [key, text] = value as readonly [string, unknown];
    writeVarint32(out, (1 << 3) | wireLength);
    writeString(out, key);
    writeVarint32(out, (2 << 3) | wireLength);
    return writeString(out, text);
  });
  return (out, message) => {
    for (const pair of Object.entries(message[name] as Record<string, unknown>)) {
      writeVarint32(out, tag);
      if (!entry(out, pair)) return false;
    }
    return true;
  };
}

interface Element {
  readonly encode: ValueEncoder;
  readonly wireType: number;
  /** Whether a field without presence is left out. */
  readonly isZero: (value: unknown) => boolean;
}

function compileElement(
  field: Exclude<DescField, { fieldKind: "map" }>,
  known: Map<DescMessage, MessageEncoder>,
): Element | undefined {
  if (field.message !== undefined) {
    const encode = compileMessage(field.message, known);
    const encodeValue: ValueEncoder = (out, value) =>
      typeof value === "object" && value !== null && encode(out, value as Message);
    return { encode: lengthDelimited(encodeValue), wireType: wireLength, isZero: (value) => value === undefined };
  }
  return scalars[field.scalar ?? enum_];
}

const isZeroNumber = (value: unknown): boolean => value === 0;

const scalars: Partial<Record<ScalarType, Element>> = {
  [ScalarType.STRING]: { encode: writeString, wireType: wireLength, isZero: (value) => value === "" },
  [ScalarType.BYTES]: {
    encode: writeBytesField,
    wireType: wireLength,
    isZero: (value) => value instanceof Uint8Array && value.byteLength === 0,
  },
  [ScalarType.BOOL]: {
    encode(out, value) {
      if (typeof value !== "boolean") return false;
      writeVarint32(out, value ? 1 : 0);
      return true;
    },
    wireType: wireVarint,
    isZero: (value) => value === false,
  },
  [ScalarType.UINT32]: {
    encode(out, value) {
      if (typeof value !== "number" || value !== value >>> 0) return false;
      writeVarint32(out, value);
      return true;
    },
    wireType: wireVarint,
    isZero: isZeroNumber,
  },
  [ScalarType.INT32]: {
    encode(out, value) {
      if (typeof value !== "number" || value !== (value | 0)) return false;
      // A negative one takes ten bytes, as if it had 64 bits.
      if (value < 0) writeVarint64(out, BigInt.asUintN(64, BigInt(value)));
      else writeVarint32(out, value);
      return true;
    },
    wireType: wireVarint,
    isZero: isZeroNumber,
  },
  [ScalarType.UINT64]: {
    encode(out, value) {
      if (typeof value !== "bigint" || value !== BigInt.asUintN(64, value)) return false;
      writeVarint64(out, value);
      return true;
    },
    wireType: wireVarint,
    isZero: (value) => value === 0n,
  },
  [ScalarType.INT64]: {
    encode(out, value) {
      if (typeof value !== "bigint" || value !== BigInt.asIntN(64, value)) return false;
      writeVarint64(out, BigInt.asUintN(64, value));
      return true;
    },
    wireType: wireVarint,
    isZero: (value) => value === 0n,
  },
  [ScalarType.DOUBLE]: {
    encode(out, value) {
      if (typeof value !== "number") return false;
      out.reserve(8);
      out.view.setFloat64(out.pos, value, true);
      out.pos += 8;
      return true;
    },
    wireType: wire64,
    isZero: (value) => Object.is(value, 0),
  },
  [ScalarType.FLOAT]: {
    encode(out, value) {
      // What does not fit is protobuf-es's to refuse.
      if (typeof value !== "number" || (Number.isFinite(value) && !Number.isFinite(Math.fround(value)))) return false;
      out.reserve(4);
      out.view.setFloat32(out.pos, value, true);
      out.pos += 4;
      return true;
    },
    wireType: wire32,
    isZero: (value) => Object.is(value, 0),
  },
};

/** Puts the length before what `encode` writes. */
function lengthDelimited(encode: ValueEncoder): ValueEncoder {
  // The length's own length is only known afterwards. Messages of a kind are alike: it is guessed to be the last one's.
  let guess = 1;
  return (out, value) => {
    out.reserve(guess);
    // Relative to the item, which moves when its memory grows.
    const lengthAt = out.pos - out.begin;
    out.pos += guess;
    if (!encode(out, value)) return false;
    const length = out.pos - out.begin - lengthAt - guess;
    const size = varint32Size(length);
    const at = out.begin + lengthAt;
    if (size === guess) {
      const end = out.pos;
      out.pos = at;
      putVarint32(out, length);
      out.pos = end;
      return true;
    }
    out.reserve(size);
    const moved = out.begin + lengthAt;
    out.bytes.copyWithin(moved + size, moved + guess, out.pos);
    out.pos = moved;
    putVarint32(out, length);
    out.pos += length;
    guess = size;
    return true;
  };
}

function varint32Size(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : value < 0x10000000 ? 4 : 5;
}

function writeVarint32(out: ByteSink, value: number): void {
  out.reserve(5);
  putVarint32(out, value);
}

/** Where there is room. */
function putVarint32(out: ByteSink, value: number): void {
  const { bytes } = out;
  let { pos } = out;
  let rest = value;
  while (rest > 0x7f) {
    bytes[pos++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  bytes[pos++] = rest;
  out.pos = pos;
}

function writeVarint64(out: ByteSink, value: bigint): void {
  out.reserve(10);
  const { bytes } = out;
  let { pos } = out;
  let rest = value;
  // Numbers are far faster than bigints, and most values fit.
  while (rest > 0x7fff_ffffn) {
    bytes[pos++] = Number(rest & 0x7fn) | 0x80;
    rest >>= 7n;
  }
  out.pos = pos;
  putVarint32(out, Number(rest));
}

function writeBytes(out: ByteSink, value: Uint8Array): void {
  out.reserve(value.byteLength);
  out.bytes.set(value, out.pos);
  out.pos += value.byteLength;
}

function writeBytesField(out: ByteSink, value: unknown): boolean {
  if (!(value instanceof Uint8Array)) return false;
  out.reserve(value.byteLength + 5);
  putVarint32(out, value.byteLength);
  out.bytes.set(value, out.pos);
  out.pos += value.byteLength;
  return true;
}

/** Longer strings are quicker through the platform's encoder. */
const shortString = 32;

function writeString(out: ByteSink, value: unknown): boolean {
  if (typeof value !== "string") return false;
  const { length } = value;
  // A UTF-16 unit takes three bytes of UTF-8 at most.
  out.reserve(length * 3 + 5);
  if (length <= shortString) {
    const { bytes } = out;
    let { pos } = out;
    bytes[pos++] = length;
    let i = 0;
    for (; i < length; i++) {
      const unit = value.charCodeAt(i);
      if (unit > 0x7f) break;
      bytes[pos++] = unit;
    }
    if (i === length) {
      out.pos = pos;
      return true;
    }
  }
  const guess = varint32Size(length);
  const at = out.pos;
  const { written } = utf8.encodeInto(value, out.bytes.subarray(at + guess));
  const size = varint32Size(written);
  if (size !== guess) out.bytes.copyWithin(at + size, at + guess, at + guess + written);
  putVarint32(out, written);
  out.pos += written;
  return true;
}
