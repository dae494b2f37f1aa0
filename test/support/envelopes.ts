/** A payload with its prefix: a byte of flags, four of length. `length` may lie. */
export function envelopeOf(payload: Uint8Array, flags = 0, length = payload.byteLength): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt8(flags);
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, payload]);
}

/** The whole envelopes of a body, and what is left after them. */
export function envelopesOf(body: Buffer): { envelopes: { flags: number; payload: Buffer }[]; rest: number } {
  const envelopes: { flags: number; payload: Buffer }[] = [];
  let at = 0;
  while (body.byteLength - at >= 5) {
    const end = at + 5 + body.readUInt32BE(at + 1);
    if (end > body.byteLength) break;
    envelopes.push({ flags: body.readUInt8(at), payload: body.subarray(at + 5, end) });
    at = end;
  }
  return { envelopes, rest: body.byteLength - at };
}

/** Cuts a body into chunks of the lengths, from the first again when they are used up. */
export function* cut(body: Uint8Array, lengths: readonly number[]): Generator<Uint8Array> {
  let at = 0;
  for (let i = 0; at < body.byteLength; i++) {
    const end = Math.min(body.byteLength, at + (lengths[i % lengths.length] ?? 1));
    yield body.subarray(at, end);
    at = end;
  }
}
