import { copyBytes } from "./copy-bytes.ts";

/**
 * What a stream of WebTransport begins with, in both directions, in place of
 * HTTP's headers: an envelope as Connect's streams have them, of one byte of
 * flags and four of length, with JSON inside. What follows is the body, as it
 * would be over HTTP. The format stands in docs/http3.md.
 */

/** The flag of a head. Connect and gRPC-Web use the bits 0x01, 0x02 and 0x80. */
export const headFlag = 0x40;

/** The version of the format. */
const version = 1;

const prefixLength = 5;

/** The first message of a session: what goes for all its calls, such as the token. */
export interface OpeningHead {
  readonly kind: "opening";
  readonly header: Headers;
}

export interface CallHead {
  readonly kind: "call";
  readonly method: string;
  /** With the query, if there is one. */
  readonly path: string;
  readonly header: Headers;
}

export interface ResponseHead {
  readonly kind: "response";
  readonly status: number;
  readonly header: Headers;
}

export type StreamHead = OpeningHead | CallHead | ResponseHead;

/** A stream that does not begin with a head, or not with one that is allowed here. */
export class HeadError extends Error {
  override readonly name = "HeadError";
}

export function encodeHead(head: StreamHead): Uint8Array<ArrayBuffer> {
  const payload = new TextEncoder().encode(JSON.stringify(jsonOf(head)));
  const bytes = new Uint8Array(prefixLength + payload.byteLength);
  bytes[0] = headFlag;
  new DataView(bytes.buffer).setUint32(1, payload.byteLength);
  bytes.set(payload, prefixLength);
  return bytes;
}

function jsonOf(head: StreamHead): Record<string, unknown> {
  const header = [...head.header];
  switch (head.kind) {
    case "opening":
      return { version, header };
    case "call":
      return { method: head.method, path: head.path, header };
    case "response":
      return { status: head.status, header };
  }
}

/** Collects the head of a stream from its chunks. */
export class HeadReader {
  readonly #maxBytes: number;
  #bytes = new Uint8Array();

  /** Longer ones are refused. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Whether nothing has come. */
  get empty(): boolean {
    return this.#bytes.byteLength === 0;
  }

  /** The head, once it is whole, and what came behind it. Fails with a HeadError. */
  push(chunk: Uint8Array): { readonly head: StreamHead; readonly rest: Uint8Array } | undefined {
    const bytes = this.#bytes.byteLength === 0 ? chunk : join(this.#bytes, chunk);
    if ((bytes[0] ?? headFlag) !== headFlag) throw new HeadError("the stream does not begin with a head");
    if (bytes.byteLength >= prefixLength) {
      const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(1);
      if (length > this.#maxBytes) throw new HeadError(`the head has ${length} bytes: ${this.#maxBytes} are allowed`);
      const end = prefixLength + length;
      if (bytes.byteLength >= end) {
        return { head: parseHead(bytes.subarray(prefixLength, end)), rest: bytes.subarray(end) };
      }
    }
    this.#bytes = copyBytes(bytes);
    return undefined;
  }
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(a.byteLength + b.byteLength);
  joined.set(a);
  joined.set(b, a.byteLength);
  return joined;
}

function parseHead(payload: Uint8Array): StreamHead {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
  } catch (cause) {
    throw new HeadError("the head is no JSON", { cause });
  }
  if (typeof json !== "object" || json === null) throw new HeadError("the head is no object");
  const { version: asked, method, path, status, header: fields } = json as Record<string, unknown>;
  const header = parseFields(fields);
  if (asked !== undefined) {
    if (asked !== version) throw new HeadError(`the version is not ${version}`);
    return { kind: "opening", header };
  }
  if (typeof status === "number" && Number.isInteger(status) && status >= 100 && status <= 999) {
    return { kind: "response", status, header };
  }
  if (typeof method === "string" && /^[A-Z]+$/.test(method) && typeof path === "string" && path.startsWith("/")) {
    return { kind: "call", method, path, header };
  }
  throw new HeadError("the head is neither of a session, nor of a call, nor of a response");
}

function parseFields(fields: unknown): Headers {
  const header = new Headers();
  if (!Array.isArray(fields)) throw new HeadError("the header is no list");
  for (const field of fields as unknown[]) {
    if (!Array.isArray(field) || field.length !== 2) throw new HeadError("a field is no pair");
    const [name, value] = field as unknown[];
    if (typeof name !== "string" || typeof value !== "string") throw new HeadError("a field is no pair of strings");
    try {
      header.append(name, value);
    } catch (cause) {
      throw new HeadError("a field has a name or a value that HTTP does not allow", { cause });
    }
  }
  return header;
}
