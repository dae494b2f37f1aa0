import type { DescMessage } from "@bufbuild/protobuf";
import { emptyMessages } from "./message-weight.ts";
import type { Weigh } from "./message-weight.ts";
import { countBounded, tooDeep } from "./weight-limits.ts";

/** A message of protobuf's deepest nesting, each in a list. */
const maxDepth = 200;

/**
 * Bytes of V8's heap, measured by `test/wire/message-weight.test.ts` with Node 24 and rounded up, of what JSON.parse makes:
 * an object, an array, a key with its value, and an element.
 */
const cost = { object: 96, array: 56, member: 96, element: 24 } as const;

/** How much each counts as an element, in the time that it takes to parse. */
const share = { member: 3 / 4, element: 1 / 4 } as const;

const quote = 0x22;
const backslash = 0x5c;

/**
 * Estimates what JSON text takes once it is parsed and read into a message of the type, as `compileWeight` does for the
 * binary form. JSON.parse makes objects also of what the message does not know.
 */
export function compileJsonWeight(desc: DescMessage, maxElements: number): Weigh {
  const messages = emptyMessages(desc);
  const object = cost.object + Math.max(...messages.values());
  // Where any JSON is allowed, each value of it is a message.
  const value = messages.get("google.protobuf.Value") ?? 0;
  return (payload) => {
    let weight = 0;
    let elements = 0;
    let depth = 0;
    for (let at = 0; at < payload.byteLength; at++) {
      switch (payload[at]) {
        case quote: {
          const begin = at;
          at = endOfString(payload, at);
          // A string has one or two bytes for each of UTF-8's.
          weight += 2 * (at - begin);
          break;
        }
        case 0x7b: // {
          weight += object;
          elements++;
          if (++depth > maxDepth) throw tooDeep(maxDepth);
          break;
        case 0x5b: // [
          weight += cost.array;
          elements++;
          if (++depth > maxDepth) throw tooDeep(maxDepth);
          break;
        case 0x7d: // }
        case 0x5d: // ]
          depth--;
          break;
        case 0x3a: // :
          weight += cost.member + value;
          elements += share.member;
          break;
        case 0x2c: // ,
          weight += cost.element + value;
          elements += share.element;
          break;
        default:
          continue;
      }
      countBounded(elements, maxElements);
    }
    return weight;
  };
}

/** The place of the quote that ends the string, or the end of the text. */
function endOfString(text: Uint8Array, begin: number): number {
  let at = begin + 1;
  for (; at < text.byteLength; at++) {
    const byte = text[at];
    if (byte === backslash) at++;
    else if (byte === quote) break;
  }
  return at;
}
