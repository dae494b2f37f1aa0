import { crc32 } from "node:zlib";

/**
 * A spool file: the magic, and then entries, each as
 *
 *     length of the payload   4 bytes, big-endian
 *     CRC-32 of the payload   4 bytes, big-endian
 *     payload                 its kind in one byte, and what belongs to it
 *
 * The first entry is a header. Entries are only added, until everything is stored: then the file begins anew.
 */
export const magic = Buffer.from("SLUICE\x00\x01", "latin1");
const prefixBytes = 8;
/** Longest payload; one batch of lines is smaller. What claims to be longer is damaged. */
const maxPayloadBytes = 64 * 1024 * 1024;

const kinds = { header: 0x48, lines: 0x4c, acked: 0x41, producer: 0x50 } as const;

export type SpoolEntry =
  /** Whose lines these are. `nextSeq` is the producer's number of the first batch. */
  | { readonly kind: "header"; readonly stream: string; readonly producerId: string; readonly nextSeq: number }
  /** One batch. */
  | { readonly kind: "lines"; readonly lines: readonly Uint8Array[] }
  /** The first `batches` batches of the file are stored. */
  | { readonly kind: "acked"; readonly batches: number }
  /** The server has forgotten the producer: batches that are not stored are numbered from 0 under another id. */
  | { readonly kind: "producer"; readonly producerId: string };

export function encodeEntry(entry: SpoolEntry): Buffer {
  const payload = encodePayload(entry);
  const prefix = Buffer.alloc(prefixBytes);
  prefix.writeUInt32BE(payload.length, 0);
  prefix.writeUInt32BE(crc32(payload), 4);
  return Buffer.concat([prefix, payload]);
}

function encodePayload(entry: SpoolEntry): Buffer {
  const kind = Buffer.of(kinds[entry.kind]);
  switch (entry.kind) {
    case "lines": {
      const parts: Uint8Array[] = [kind];
      for (const line of entry.lines) {
        const length = Buffer.alloc(4);
        length.writeUInt32BE(line.byteLength);
        parts.push(length, line);
      }
      return Buffer.concat(parts);
    }
    default: {
      const { kind: _, ...fields } = entry;
      return Buffer.concat([kind, Buffer.from(JSON.stringify(fields))]);
    }
  }
}

/** What stands at the beginning of the bytes: an entry, or the number of bytes that it needs, or damage. */
export type Decoded =
  | { readonly kind: "entry"; readonly entry: SpoolEntry; readonly size: number }
  | { readonly kind: "short"; readonly needed: number }
  | { readonly kind: "damaged" };

export function decodeEntry(bytes: Buffer): Decoded {
  if (bytes.length < prefixBytes) return { kind: "short", needed: prefixBytes };
  const length = bytes.readUInt32BE(0);
  if (length === 0 || length > maxPayloadBytes) return { kind: "damaged" };
  const size = prefixBytes + length;
  if (bytes.length < size) return { kind: "short", needed: size };
  const payload = bytes.subarray(prefixBytes, size);
  if (crc32(payload) !== bytes.readUInt32BE(4)) return { kind: "damaged" };
  const entry = decodePayload(payload);
  return entry === undefined ? { kind: "damaged" } : { kind: "entry", entry, size };
}

function decodePayload(payload: Buffer): SpoolEntry | undefined {
  const body = payload.subarray(1);
  switch (payload[0]) {
    case kinds.lines:
      return { kind: "lines", lines: decodeLines(body) };
    case kinds.header:
      return { kind: "header", ...(JSON.parse(body.toString()) as Omit<SpoolEntry & { kind: "header" }, "kind">) };
    case kinds.acked:
      return { kind: "acked", ...(JSON.parse(body.toString()) as Omit<SpoolEntry & { kind: "acked" }, "kind">) };
    case kinds.producer:
      return { kind: "producer", ...(JSON.parse(body.toString()) as Omit<SpoolEntry & { kind: "producer" }, "kind">) };
    default:
      return undefined;
  }
}

function decodeLines(body: Buffer): Uint8Array[] {
  const lines: Uint8Array[] = [];
  for (let at = 0; at < body.length;) {
    const end = at + 4 + body.readUInt32BE(at);
    lines.push(body.subarray(at + 4, end));
    at = end;
  }
  return lines;
}
