import { ScalarType, create } from "@bufbuild/protobuf";
import type { DescField, DescMessage, Message } from "@bufbuild/protobuf";

/** Reads a message; undefined if it is one that only protobuf-es knows how to read, or knows what is wrong with. */
export type MessageDecoder = (bytes: Uint8Array) => Message | undefined;

type Fields = Record<string, unknown>;

/** Reads the value that follows a tag into the message. */
type FieldDecoder = (from: Cursor, message: Fields) => boolean;

/** Reads a value; undefined if it is one for protobuf-es. */
type ValueDecoder = (from: Cursor) => unknown;

interface Cursor {
  bytes: Uint8Array;
  pos: number;
  depth: number;
}

const wireVarint = 0;
const wireLength = 2;

/** Tags up to here are looked up in an array: fields up to 255. */
const maxTag = (256 << 3) - 1;

/** protobuf-es has the limit on how deep messages may lie in each other. */
const maxDepth = 20;

const nothing = new Uint8Array(0);

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Well-known types that stand in messages as themselves. */
const plainTypes: ReadonlySet<string> = new Set(["Timestamp", "Duration", "FieldMask", "Empty", "Any"]);

/**
 * A decoder for messages of the type, without the reader, view and context that
 * protobuf-es makes for each: they cost as much as a small message. It knows the
 * common kinds of fields. What has others, unknown fields, or anything that needs
 * a second look is protobuf-es's. Undefined if that is every message of the type.
 */
export function compileDecoder(desc: DescMessage): MessageDecoder | undefined {
  const decode = compileMessage(desc, new Map());
  if (decode === undefined) return undefined;
  // One for all: decoding is not interrupted.
  const cursor: Cursor = { bytes: nothing, pos: 0, depth: 0 };
  return (bytes) => {
    cursor.bytes = bytes;
    cursor.pos = 0;
    cursor.depth = 0;
    const message = decode(cursor, bytes.length);
    // Otherwise the last message of each type would be kept.
    cursor.bytes = nothing;
    return message;
  };
}

type NestedDecoder = (from: Cursor, end: number) => Message | undefined;

function compileMessage(
  desc: DescMessage,
  known: Map<DescMessage, NestedDecoder | undefined>,
): NestedDecoder | undefined {
  if (known.has(desc)) return known.get(desc);
  const byTag: FieldDecoder[] = [];
  const decode: NestedDecoder = (from, end) => {
    if (++from.depth > maxDepth) return undefined;
    const message = create(desc) as Message & Fields;
    while (from.pos < end) {
      const tag = readVarint32(from);
      const field = byTag[tag];
      if (field === undefined || !field(from, message)) return undefined;
    }
    from.depth--;
    return from.pos === end ? message : undefined;
  };
  // Before its fields, because a message can contain itself.
  known.set(desc, decode);
  for (const field of desc.fields) {
    const compiled = compileField(field, known);
    if (compiled === undefined || compiled.tag > maxTag) {
      known.set(desc, undefined);
      // Messages that contain this one may have been compiled with the other already.
      byTag.length = 0;
      return undefined;
    }
    byTag[compiled.tag] = compiled.decode;
  }
  return decode;
}

function compileField(
  field: DescField,
  known: Map<DescMessage, NestedDecoder | undefined>,
): { readonly tag: number; readonly decode: FieldDecoder } | undefined {
  const name = field.localName;
  if (field.fieldKind === "map") return compileMap(field);
  const element = compileElement(field, known);
  if (element === undefined) return undefined;
  const { decode, wireType } = element;
  const tag = (field.number << 3) | wireType;
  if (field.fieldKind === "list") {
    if (field.packed) return undefined;
    return {
      tag,
      decode(from, message) {
        const value = decode(from);
        if (value === undefined) return false;
        (message[name] as unknown[]).push(value);
        return true;
      },
    };
  }
  // Of a message that comes twice the second is merged into the first.
  const merges = field.fieldKind === "message";
  if (field.oneof !== undefined) {
    const oneofName = field.oneof.localName;
    return {
      tag,
      decode(from, message) {
        if (merges && (message[oneofName] as { readonly case?: string }).case === name) return false;
        const value = decode(from);
        if (value === undefined) return false;
        message[oneofName] = { case: name, value };
        return true;
      },
    };
  }
  return {
    tag,
    decode(from, message) {
      if (merges && message[name] !== undefined) return false;
      const value = decode(from);
      if (value === undefined) return false;
      message[name] = value;
      return true;
    },
  };
}

/** `map<string, string>`, which is what headers are made of. */
function compileMap(field: DescField & { fieldKind: "map" }): ReturnType<typeof compileField> {
  if (field.mapKind !== "scalar" || field.mapKey !== ScalarType.STRING || field.scalar !== ScalarType.STRING) {
    return undefined;
  }
  const name = field.localName;
  return {
    tag: (field.number << 3) | wireLength,
    decode(from, message) {
      const length = readVarint32(from);
      const end = from.pos + length;
      if (length < 0 || end > from.bytes.length) return false;
      let key = "";
      let value = "";
      while (from.pos < end) {
        const tag = readVarint32(from);
        const text = tag === ((1 << 3) | wireLength) || tag === ((2 << 3) | wireLength) ? readString(from) : undefined;
        if (text === undefined) return false;
        if (tag === ((1 << 3) | wireLength)) key = text;
        else value = text;
      }
      // A plain object takes this name for something else.
      if (from.pos !== end || key === "__proto__") return false;
      (message[name] as Record<string, string>)[key] = value;
      return true;
    },
  };
}

interface Element {
  readonly decode: ValueDecoder;
  readonly wireType: number;
}

function compileElement(
  field: Exclude<DescField, { fieldKind: "map" }>,
  known: Map<DescMessage, NestedDecoder | undefined>,
): Element | undefined {
  if (field.message !== undefined) {
    const wellKnown = /^google\.protobuf\.(\w+)$/.exec(field.message.typeName)?.[1];
    if (field.delimitedEncoding || (wellKnown !== undefined && !plainTypes.has(wellKnown))) return undefined;
    const decode = compileMessage(field.message, known);
    if (decode === undefined) return undefined;
    return {
      decode(from) {
        const length = readVarint32(from);
        const end = from.pos + length;
        return length < 0 || end > from.bytes.length ? undefined : decode(from, end);
      },
      wireType: wireLength,
    };
  }
  if (field.enum !== undefined) {
    return field.enum.open ? { decode: readInt32, wireType: wireVarint } : undefined;
  }
  // As strings they are for protobuf-es.
  if ((field.scalar === ScalarType.INT64 || field.scalar === ScalarType.UINT64) && field.longAsString) return undefined;
  return scalars[field.scalar];
}

const scalars: Partial<Record<ScalarType, Element>> = {
  [ScalarType.STRING]: { decode: readString, wireType: wireLength },
  [ScalarType.BYTES]: { decode: readBytes, wireType: wireLength },
  [ScalarType.BOOL]: {
    decode(from) {
      const value = readVarint32(from);
      return value === 0 ? false : value === 1 ? true : undefined;
    },
    wireType: wireVarint,
  },
  [ScalarType.UINT32]: {
    decode(from) {
      const value = readVarint32(from);
      return value < 0 ? undefined : value;
    },
    wireType: wireVarint,
  },
  [ScalarType.INT32]: { decode: readInt32, wireType: wireVarint },
  [ScalarType.UINT64]: { decode: readSmallLong, wireType: wireVarint },
  [ScalarType.INT64]: { decode: readSmallLong, wireType: wireVarint },
};

/** Up to 28 bits; -1 for what is longer, or ends too early. */
function readVarint32(from: Cursor): number {
  const { bytes } = from;
  let { pos } = from;
  let value = 0;
  for (let shift = 0; shift < 28; shift += 7) {
    const byte = bytes[pos++];
    if (byte === undefined) return -1;
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) {
      from.pos = pos;
      return value;
    }
  }
  return -1;
}

/** A negative one is longer than what is read here. */
function readInt32(from: Cursor): number | undefined {
  const value = readVarint32(from);
  return value < 0 ? undefined : value;
}

/** Up to 49 bits, which a number holds exactly. */
function readSmallLong(from: Cursor): bigint | undefined {
  const { bytes } = from;
  let { pos } = from;
  let value = 0;
  let factor = 1;
  for (let i = 0; i < 7; i++) {
    const byte = bytes[pos++];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * factor;
    factor *= 128;
    if (byte < 0x80) {
      from.pos = pos;
      return BigInt(value);
    }
  }
  return undefined;
}

function readBytes(from: Cursor): Uint8Array | undefined {
  const length = readVarint32(from);
  const begin = from.pos;
  const end = begin + length;
  if (length < 0 || end > from.bytes.length) return undefined;
  from.pos = end;
  return from.bytes.subarray(begin, end);
}

/** Longer strings are quicker through the platform's decoder. */
const shortString = 16;

function readString(from: Cursor): string | undefined {
  const length = readVarint32(from);
  const { bytes, pos } = from;
  const end = pos + length;
  if (length < 0 || end > bytes.length) return undefined;
  from.pos = end;
  if (length <= shortString) {
    let text = "";
    let at = pos;
    for (; at < end; at++) {
      const byte = bytes[at] as number;
      if (byte > 0x7f) break;
      text += String.fromCharCode(byte);
    }
    if (at === end) return text;
  }
  try {
    return utf8.decode(bytes.subarray(pos, end));
  } catch {
    return undefined;
  }
}
