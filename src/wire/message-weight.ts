import { ScalarType } from "@bufbuild/protobuf";
import type { DescField, DescMessage } from "@bufbuild/protobuf";
import { countBounded, tooDeep } from "./weight-limits.ts";

/**
 * Estimates the memory that a message takes once it is decoded, in bytes, with
 * its payload if the message has views of it. Throws RESOURCE_EXHAUSTED for a message of too many
 * elements, and INVALID_ARGUMENT for one that is nested too deeply, before
 * anything is allocated for them.
 */
export type Weigh = (payload: Uint8Array) => number;

/** protobuf-es refuses deeper messages too. */
const maxDepth = 100;

/**
 * Bytes of V8's heap, measured by `test/wire/message-weight.test.ts` with Node 24 and
 * rounded up: an object of a message and each member of it, an array, a map with
 * its first entries, an element of an array, an entry of a map, a view of bytes,
 * the header of a string, a BigInt.
 */
const cost = {
  message: 48,
  member: 16,
  list: 32,
  map: 56,
  element: 12,
  entry: 80,
  bytes: 104,
  string: 24,
  bigint: 24,
} as const;

/** How the value of a field is weighed. */
interface Field {
  /** Bytes for each occurrence. */
  readonly bytes: number;
  /** Text is copied, into one or two bytes for each of UTF-8's. */
  readonly text: boolean;
  /** A view of the payload, which is then kept with the message. */
  readonly view: boolean;
  readonly message: Shape | undefined;
  /** Of an element of a packed list: 0 is a varint's, undefined if the field cannot be packed. */
  readonly width: number | undefined;
  /** Elements that count as one, because they are cheap. */
  readonly share: number;
}

interface Shape {
  /** Bytes of an empty message. */
  readonly bytes: number;
  readonly fields: Field[];
}

/** Fields beyond this number are found in no array: they are weighed as unknown ones, which are dropped. */
const maxFieldNumber = 4096;

export function compileWeight(desc: DescMessage, maxElements: number): Weigh {
  const root = shapeOf(desc, new Map());
  const scanner = new Scanner(maxElements);
  return (payload) => scanner.weigh(root, payload);
}

/** The empty messages that can occur in a message of the type, in bytes by their type's name. */
export function emptyMessages(desc: DescMessage): ReadonlyMap<string, number> {
  const shapes = new Map<DescMessage, Shape>();
  shapeOf(desc, shapes);
  return new Map([...shapes].map(([{ typeName }, { bytes }]) => [typeName, bytes]));
}

function shapeOf(desc: DescMessage, known: Map<DescMessage, Shape>): Shape {
  const found = known.get(desc);
  if (found !== undefined) return found;
  let bytes: number = cost.message;
  for (const field of desc.fields) {
    bytes += cost.member;
    if (field.fieldKind === "list") bytes += cost.list;
    if (field.fieldKind === "map") bytes += cost.map;
  }
  const shape: Shape = { bytes, fields: [] };
  // Before its fields, because a message can contain itself.
  known.set(desc, shape);
  for (const field of desc.fields) {
    if (field.number <= maxFieldNumber) shape.fields[field.number] = fieldOf(field, known);
  }
  return shape;
}

function fieldOf(field: DescField, known: Map<DescMessage, Shape>): Field {
  if (field.fieldKind === "map") {
    const key = scalarOf(field.mapKey, false);
    const value = field.message === undefined ? scalarOf(field.scalar, false) : messageOf(field.message, known, 0);
    const entry: Shape = { bytes: 0, fields: [] };
    entry.fields[1] = key;
    entry.fields[2] = value;
    return { bytes: cost.entry, text: false, view: false, message: entry, width: undefined, share: 1 };
  }
  const list = field.fieldKind === "list";
  if (field.message !== undefined) return messageOf(field.message, known, list ? cost.element : 0);
  return scalarOf(field.scalar, list);
}

function messageOf(desc: DescMessage, known: Map<DescMessage, Shape>, bytes: number): Field {
  return { bytes, text: false, view: false, message: shapeOf(desc, known), width: undefined, share: 1 };
}

/** Undefined is an enum, which is a number. */
function scalarOf(type: ScalarType | undefined, list: boolean): Field {
  const element = list ? cost.element : 0;
  switch (type) {
    case ScalarType.STRING:
      return { bytes: element + cost.string, text: true, view: false, message: undefined, width: undefined, share: 1 };
    case ScalarType.BYTES:
      return { bytes: element + cost.bytes, text: false, view: true, message: undefined, width: undefined, share: 1 };
    case ScalarType.INT64:
    case ScalarType.UINT64:
    case ScalarType.SINT64:
      return { bytes: element + cost.bigint, text: false, view: false, message: undefined, width: 0, share: 1 };
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return { bytes: element + cost.bigint, text: false, view: false, message: undefined, width: 8, share: 1 };
    case ScalarType.DOUBLE:
      return { bytes: element, text: false, view: false, message: undefined, width: 8, share: 8 };
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return { bytes: element, text: false, view: false, message: undefined, width: 4, share: 8 };
    default:
      return { bytes: element, text: false, view: false, message: undefined, width: 0, share: 8 };
  }
}

const nothing = new Uint8Array(0);

/** Walks over the wire format (https://protobuf.dev/programming-guides/encoding) without decoding it. */
class Scanner {
  readonly #maxElements: number;
  #bytes = nothing as Uint8Array;
  #pos = 0;
  #elements = 0;
  #weight = 0;
  #views = 0;

  constructor(maxElements: number) {
    this.#maxElements = maxElements;
  }

  weigh(root: Shape, payload: Uint8Array): number {
    this.#bytes = payload;
    this.#pos = 0;
    this.#elements = 0;
    this.#weight = root.bytes;
    this.#views = 0;
    try {
      // What is malformed is found by whoever decodes it.
      this.#message(root, payload.byteLength, 1, -1);
      return this.#views > 0 ? this.#weight + payload.byteLength : this.#weight;
    } finally {
      this.#bytes = nothing;
    }
  }

  /** False if it is malformed. A group ends with the tag `endTag`. */
  #message(shape: Shape | undefined, end: number, depth: number, endTag: number): boolean {
    if (depth > maxDepth) throw tooDeep(maxDepth);
    while (this.#pos < end) {
      const tag = this.#varint();
      if (tag < 0) return false;
      if (tag === endTag) return true;
      this.#count(1);
      const number = Math.floor(tag / 8);
      const field = shape?.fields[number];
      if (field !== undefined) this.#weight += field.bytes;
      switch (tag & 7) {
        case 0:
          if (this.#varint() === -1) return false;
          break;
        case 1:
          this.#pos += 8;
          break;
        case 2:
          if (!this.#delimited(field, end, depth)) return false;
          break;
        case 3:
          if (field?.message !== undefined) this.#weight += field.message.bytes;
          if (!this.#message(field?.message, end, depth + 1, number * 8 + 4)) return false;
          break;
        case 5:
          this.#pos += 4;
          break;
        default:
          return false;
      }
    }
    return endTag === -1 && this.#pos === end;
  }

  #delimited(field: Field | undefined, limit: number, depth: number): boolean {
    const length = this.#varint();
    const end = this.#pos + length;
    if (length < 0 || end > limit) return false;
    if (field?.message !== undefined) {
      this.#weight += field.message.bytes;
      return this.#message(field.message, end, depth + 1, -1);
    }
    if (field?.view === true && length > 0) this.#views++;
    else if (field?.text === true) this.#weight += 2 * length;
    else if (field?.width !== undefined) this.#packed(field, field.width, end);
    this.#pos = end;
    return true;
  }

  #packed({ bytes, share }: Field, width: number, end: number): void {
    let count = 0;
    if (width > 0) count = Math.floor((end - this.#pos) / width);
    else for (let at = this.#pos; at < end; at++) if ((this.#bytes[at] as number) < 0x80) count++;
    this.#weight += count * bytes;
    this.#count(count / share);
  }

  #count(elements: number): void {
    this.#elements += elements;
    countBounded(this.#elements, this.#maxElements);
  }

  /** -1 if it ends too early or is longer than ten bytes, -2 if it is larger than a tag or a length can be. */
  #varint(): number {
    const bytes = this.#bytes;
    let value = 0;
    let factor = 1;
    for (let i = 0; i < 10; i++) {
      const byte = bytes[this.#pos];
      if (byte === undefined) return -1;
      this.#pos++;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value > 0xffffffff ? -2 : value;
      factor *= 128;
    }
    return -1;
  }
}
