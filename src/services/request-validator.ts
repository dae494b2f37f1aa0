import { getOption } from "@bufbuild/protobuf";
import type { DescField, DescMessage } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import type { Validator } from "@bufbuild/protovalidate";
import { Code, ConnectError } from "@connectrpc/connect";
import { field as fieldRules } from "../../gen/buf/validate/validate_pb.ts";

/** Text up to this length is left to protovalidate, whose messages say more. */
const leastChecked = 16 * 1024;

/** Text that a pattern is matched with, at most. */
const longestMatched = 64 * 1024;

type Fields = Readonly<Record<string, unknown>>;
type Check = (message: Fields) => void;

/**
 * protovalidate, for requests of strangers: it counts the characters of a text,
 * and matches it with a pattern, however long it is: 4 MiB held the event loop for a noticeable time.
 * Text that is far longer than its rules allow is refused before.
 */
export function createRequestValidator(): Validator {
  const validator = createValidator();
  const checks = new Map<DescMessage, Check>();
  return {
    validate(desc, message) {
      let check = checks.get(desc);
      if (check === undefined) {
        check = checkOf(desc, new Map()) ?? ((): void => undefined);
        checks.set(desc, check);
      }
      check(message);
      return validator.validate(desc, message);
    },
  };
}

/** Undefined if there is nothing to check. */
function checkOf(desc: DescMessage, known: Map<DescMessage, Check>): Check | undefined {
  const found = known.get(desc);
  if (found !== undefined) return found;
  const parts: Check[] = [];
  const check: Check = (message) => {
    for (const part of parts) part(message);
  };
  // Before its fields, because a message can contain itself.
  known.set(desc, check);
  for (const field of desc.fields) {
    const part = partOf(field, known);
    if (part !== undefined) parts.push(part);
  }
  return parts.length === 0 ? undefined : check;
}

function partOf(field: DescField, known: Map<DescMessage, Check>): Check | undefined {
  const check = valueCheckOf(field, known);
  if (check === undefined) return undefined;
  const name = field.localName;
  const { oneof } = field;
  if (oneof === undefined) return (message) => check(message[name]);
  return (message) => {
    const chosen = message[oneof.localName] as { readonly case?: string; readonly value?: unknown };
    if (chosen.case === name) check(chosen.value);
  };
}

function valueCheckOf(field: DescField, known: Map<DescMessage, Check>): ((value: unknown) => void) | undefined {
  if (field.fieldKind === "scalar") {
    const longest = longestOf(field);
    if (longest === undefined) return undefined;
    return (value) => {
      if (typeof value === "string" && value.length > longest) throw tooLong(field, value.length);
    };
  }
  if (field.fieldKind === "map" || field.message === undefined) return undefined;
  const nested = checkOf(field.message, known);
  if (nested === undefined) return undefined;
  if (field.fieldKind === "list") {
    return (value) => {
      for (const message of value as readonly Fields[]) nested(message);
    };
  }
  return (value) => {
    if (value !== undefined) nested(value as Fields);
  };
}

/** Characters of JavaScript's, of which some need two. */
function longestOf(field: DescField): number | undefined {
  const rules = getOption(field, fieldRules).type;
  if (rules.case !== "string") return undefined;
  const { maxLen, maxBytes, len, lenBytes, pattern } = rules.value;
  const bounds = [maxLen, maxBytes, len, lenBytes].filter((bound) => bound > 0n).map((bound) => Number(bound) * 2);
  if (pattern !== "") bounds.push(longestMatched);
  return bounds.length === 0 ? undefined : Math.max(leastChecked, Math.min(...bounds));
}

function tooLong(field: DescField, length: number): ConnectError {
  return new ConnectError(`${field.name}: has ${length} characters, far more than it may have`, Code.InvalidArgument);
}
