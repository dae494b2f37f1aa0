/** Capsules of a WebTransport session (RFC 9297, section 3.2; draft-ietf-webtrans-http3, section 5). */

const closeSession = 0x2843;
const drainSession = 0x78ae;

/** Bytes of the reason of a close, at most: draft-ietf-webtrans-http3, section 5. */
const maxReasonBytes = 1024;

/** How the peer has closed a session. */
export interface SessionClose {
  readonly code: number;
  readonly reason: string;
}

export function encodeClose({ code, reason }: SessionClose): Uint8Array {
  const text = truncate(new TextEncoder().encode(reason), maxReasonBytes);
  const payload = new Uint8Array(4 + text.byteLength);
  new DataView(payload.buffer).setUint32(0, code);
  payload.set(text, 4);
  return capsule(closeSession, payload);
}

/** Asks the peer to open no more streams, and another session for them. */
export function encodeDrain(): Uint8Array {
  return capsule(drainSession, new Uint8Array());
}

function capsule(type: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + 2 + payload.byteLength);
  const view = new DataView(bytes.buffer);
  // Of four bytes and of two: RFC 9000, section 16.
  view.setUint32(0, 0x8000_0000 + type);
  view.setUint16(4, 0x4000 + payload.byteLength);
  bytes.set(payload, 6);
  return bytes;
}

/** Cuts between two characters of UTF-8. */
function truncate(text: Uint8Array, max: number): Uint8Array {
  if (text.byteLength <= max) return text;
  let end = max;
  while (end > 0 && ((text[end] ?? 0) & 0xc0) === 0x80) end--;
  return text.subarray(0, end);
}

/** Finds the close among what a peer says. Others are skipped, however long, and nothing of them is kept. */
export class CapsuleReader {
  #bytes: number[] = [];
  #skip = 0;

  /** Fails if a close is malformed. */
  push(chunk: Uint8Array): SessionClose | undefined {
    let at = 0;
    while (at < chunk.byteLength) {
      const skipped = Math.min(this.#skip, chunk.byteLength - at);
      this.#skip -= skipped;
      at += skipped;
      if (at === chunk.byteLength) return undefined;
      this.#bytes.push(chunk[at++] ?? 0);
      const close = this.#whole();
      if (close !== undefined) return close;
    }
    return undefined;
  }

  #whole(): SessionClose | undefined {
    const type = readInteger(this.#bytes, 0);
    const length = type === undefined ? undefined : readInteger(this.#bytes, type.end);
    if (type === undefined || length === undefined) return undefined;
    if (type.value !== closeSession) {
      this.#bytes = [];
      this.#skip = length.value;
      return undefined;
    }
    if (length.value < 4 || length.value > 4 + maxReasonBytes) throw new Error("a close of a strange length");
    if (this.#bytes.length < length.end + length.value) return undefined;
    const payload = Uint8Array.from(this.#bytes.slice(length.end));
    return {
      code: new DataView(payload.buffer).getUint32(0),
      reason: new TextDecoder().decode(payload.subarray(4)),
    };
  }
}

/** Of variable length: RFC 9000, section 16. Undefined if it is not whole. */
function readInteger(bytes: readonly number[], at: number): { value: number; end: number } | undefined {
  const first = bytes[at];
  if (first === undefined) return undefined;
  const end = at + (1 << (first >> 6));
  if (bytes.length < end) return undefined;
  let value = first & 0x3f;
  for (const byte of bytes.slice(at + 1, end)) value = value * 0x100 + byte;
  return { value, end };
}
