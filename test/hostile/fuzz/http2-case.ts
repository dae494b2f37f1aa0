import {
  flags,
  frame,
  frameTypes,
  headerBlock,
  headers,
  preface,
  resetFrame,
  settings,
  uint32,
} from "../../support/http2-frames.ts";
import type { Chance } from "./chance.ts";
import { body, fields, method, path } from "./requests.ts";

/** The bytes of one connection over HTTP/2: mostly in order, with a fault here and there. */
export function http2Case(chance: Chance): Buffer {
  const parts: Buffer[] = [chance.oneIn(30) ? preface.subarray(0, chance.below(24)) : preface];
  if (!chance.oneIn(20)) parts.push(settings(...settingsPairs(chance)));
  let next = 1;
  for (let i = chance.few() * 3; i > 0; i--) {
    const stream = streamId(chance, next);
    if (chance.oneIn(3)) {
      parts.push(requestFrames(chance, next));
      next += 2;
    } else {
      parts.push(otherFrame(chance, stream));
    }
  }
  const bytes = Buffer.concat(parts);
  if (chance.oneIn(15)) return mutated(chance, bytes);
  // The last frame is cut off.
  return chance.oneIn(10) ? bytes.subarray(0, bytes.byteLength - chance.below(20)) : bytes;
}

/** Mostly a stream that is open or was. */
function streamId(chance: Chance, next: number): number {
  return chance.oneIn(12)
    ? chance.of([0, 2, next, next + 100, 0x7fffffff, 0x80000001])
    : Math.max(1, next - 2 - 2 * chance.below(4));
}

function settingsPairs(chance: Chance): [number, number][] {
  return Array.from({ length: chance.below(4) }, (): [number, number] => [
    // RFC 9113, section 6.5.2, RFC 8441, and what nobody knows.
    chance.of([1, 2, 3, 4, 5, 6, 8, 0x1a2a]),
    chance.of([0, 1, 100, 16_384, 65_535, 0x7fffffff, 0xffffffff]),
  ]);
}

function requestFrames(chance: Chance, stream: number): Buffer {
  const pseudo: (readonly [string, string])[] = [
    [":method", method(chance)],
    [":scheme", chance.of(["http", "https", "ftp", ""])],
    [":path", path(chance)],
    [":authority", chance.of(["localhost", "localhost", "evil.example", "", "a b", "\xff"])],
  ];
  if (chance.oneIn(12)) pseudo.splice(chance.below(4), 1);
  if (chance.oneIn(15))
    pseudo.push(
      chance.of([
        [":path", "/"],
        [":protocol", "webtransport"],
        [":status", "200"],
        [":x", "y"],
      ]),
    );
  const all = [...pseudo, ...fields(chance)];
  if (chance.oneIn(20)) all.reverse();
  const flag = (chance.oneIn(15) ? 0 : flags.endHeaders) | (chance.oneIn(4) ? flags.endStream : 0);
  const parts = [headers(stream, all, flag)];
  if (!chance.oneIn(3)) {
    const end = chance.oneIn(2) ? flags.endStream : 0;
    parts.push(frame(frameTypes.data, end, stream, body(chance)));
  }
  if (chance.oneIn(3)) parts.push(resetFrame(stream, chance.of([0, 1, 2, 5, 7, 8, 11, 0xffffffff])));
  return Buffer.concat(parts);
}

function otherFrame(chance: Chance, stream: number): Buffer {
  const anyFlag = chance.oneIn(3) ? chance.below(256) : 0;
  switch (chance.below(12)) {
    case 0:
      return resetFrame(stream, chance.below(14));
    case 1:
      return frame(frameTypes.data, anyFlag | (chance.oneIn(3) ? flags.endStream : 0), stream, body(chance));
    case 2:
      return frame(frameTypes.ping, anyFlag, chance.oneIn(6) ? stream : 0, chance.bytes(chance.oneIn(5) ? 7 : 8));
    case 3:
      return frame(
        frameTypes.windowUpdate,
        0,
        chance.oneIn(2) ? 0 : stream,
        uint32(chance.of([0, 1, 65_535, 0x7fffffff])),
      );
    case 4:
      return settings(...settingsPairs(chance));
    case 5:
      return frame(frameTypes.settings, flags.ack, 0, chance.bytes(chance.oneIn(6) ? 6 : 0));
    case 6:
      return frame(frameTypes.priority, 0, stream, chance.bytes(chance.oneIn(5) ? 4 : 5));
    case 7:
      return frame(frameTypes.goaway, 0, 0, Buffer.concat([uint32(chance.below(20)), uint32(chance.below(14))]));
    case 8:
      return frame(frameTypes.continuation, anyFlag, stream, headerBlock(fields(chance)));
    case 9:
      // Trailers.
      return headers(stream, fields(chance), flags.endHeaders | (chance.oneIn(4) ? 0 : flags.endStream));
    case 10:
      return frame(frameTypes.pushPromise, flags.endHeaders, stream, chance.bytes(4 + chance.below(20)));
    default:
      return frame(chance.below(256), anyFlag, stream, chance.bytes(chance.below(64)));
  }
}

/** Some bytes are others: lengths that do not fit, HPACK that means nothing. */
function mutated(chance: Chance, bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  for (let i = chance.few(); i > 0; i--) copy[chance.below(copy.byteLength)] = chance.below(256);
  return copy;
}
