/** Frames of HTTP/2 as bytes (RFC 9113, section 4.1), so that a test can send what no library would. */

import type { Duplex } from "node:stream";

export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

export const frameTypes = {
  data: 0x0,
  headers: 0x1,
  priority: 0x2,
  rstStream: 0x3,
  settings: 0x4,
  pushPromise: 0x5,
  ping: 0x6,
  goaway: 0x7,
  windowUpdate: 0x8,
  continuation: 0x9,
} as const;

export const flags = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

export function frame(type: number, flag: number, stream: number, payload: Uint8Array = new Uint8Array()): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.byteLength, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flag, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export function settings(...pairs: readonly (readonly [id: number, value: number])[]): Buffer {
  return frame(
    frameTypes.settings,
    0,
    0,
    Buffer.concat(
      pairs.map(([id, value]) => {
        const pair = Buffer.alloc(6);
        pair.writeUInt16BE(id, 0);
        pair.writeUInt32BE(value, 2);
        return pair;
      }),
    ),
  );
}

/** A 32-bit payload: an error code, or a window's increment. */
export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

export function resetFrame(stream: number, code: number): Buffer {
  return frame(frameTypes.rstStream, 0, stream, uint32(code));
}

export type Fields = readonly (readonly [name: string, value: string])[];

/** A header block of literal fields without indexing and without Huffman coding (RFC 7541, section 6.2.2). */
export function headerBlock(fields: Fields): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  return Buffer.concat([integer(bytes.byteLength), bytes]);
}

/** An integer with a prefix of seven bits (RFC 7541, section 5.1). */
function integer(value: number): Buffer {
  if (value < 127) return Buffer.from([value]);
  const bytes = [127];
  let rest = value - 127;
  for (; rest >= 128; rest >>= 7) bytes.push((rest & 127) | 128);
  return Buffer.from([...bytes, rest]);
}

/** HEADERS, with CONTINUATION frames if the block is larger than a frame may be. */
export function headers(stream: number, fields: Fields, flag: number = flags.endHeaders): Buffer {
  const block = headerBlock(fields);
  const most = 16_384;
  const frames: Buffer[] = [];
  for (let at = 0; at === 0 || at < block.byteLength; at += most) {
    const last = at + most >= block.byteLength;
    const type = at === 0 ? frameTypes.headers : frameTypes.continuation;
    const first = at === 0 ? flag & ~flags.endHeaders : 0;
    frames.push(frame(type, first | (last ? flag & flags.endHeaders : 0), stream, block.subarray(at, at + most)));
  }
  return Buffer.concat(frames);
}

/** A request as RPC clients make them, with the fields that are given last. */
export function request(path: string, more: Fields = [], method = "POST"): Fields {
  return [
    [":method", method],
    [":scheme", "http"],
    [":path", path],
    [":authority", "localhost"],
    ["acme-token", "sample"],
    ...more,
  ];
}

/** Acknowledges the pings of the server on a raw connection, from its first byte on (RFC 9113, section 6.7). */
export function answerPings(socket: Duplex): void {
  let seen = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    seen = Buffer.concat([seen, chunk]);
    while (seen.byteLength >= 9 && seen.byteLength >= 9 + seen.readUIntBE(0, 3)) {
      const end = 9 + seen.readUIntBE(0, 3);
      if (seen[3] === frameTypes.ping && ((seen[4] ?? 0) & flags.ack) === 0) {
        socket.write(frame(frameTypes.ping, flags.ack, 0, seen.subarray(9, end)));
      }
      seen = seen.subarray(end);
    }
  });
}
