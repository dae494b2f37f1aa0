import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression, UniversalServerResponse } from "@connectrpc/connect/protocol";
import {
  codeFromHttpStatus,
  codeToHttpStatus,
  codeToString,
  errorFromJsonBytes,
} from "@connectrpc/connect/protocol-connect";
import { boundError } from "./bounded-error.ts";
import { toRequestFault } from "./request-faults.ts";

/** A failure of one of Connect's unary calls: what is answered, and the error in it. */
export interface UnaryFailure {
  readonly response: UniversalServerResponse;
  readonly error: ConnectError;
}

/**
 * Reads the error that a response of Connect's unary protocol is, because
 * Connect's handler makes it out of failures of its own that nobody else sees.
 * Undefined for what is no such error, as a 415 without a body.
 *
 * `unread`: the request's message has not been read, so that what Connect calls
 * INTERNAL was a message that could not be.
 */
export async function readUnaryFailure(
  response: UniversalServerResponse,
  unread: boolean,
  compressions: readonly Compression[],
): Promise<UnaryFailure | undefined> {
  const { status, header, body } = response;
  if (status === 200 || body === undefined || header?.get("content-type") !== "application/json") return undefined;
  const sent = await join(body);
  const encoding = header.get("content-encoding");
  const compression = compressions.find(({ name }) => name === encoding);
  const plain = compression === undefined ? sent : await compression.decompress(sent, 0x7fffffff);
  const read = errorFromJsonBytes(plain, undefined, new ConnectError("", codeFromHttpStatus(status)));
  const error = boundError(unread && read.code === Code.Internal ? toRequestFault(read) : read);
  if (error === read) return { response: { ...response, body: once(sent) }, error };
  const json = JSON.parse(new TextDecoder().decode(plain)) as Record<string, unknown>;
  const changed = { ...json, code: codeToString(error.code), message: error.rawMessage };
  const bytes = new TextEncoder().encode(JSON.stringify(changed));
  header.delete("content-encoding");
  header.set("content-length", String(bytes.byteLength));
  return { response: { ...response, status: codeToHttpStatus(error.code), header, body: once(bytes) }, error };
}

async function join(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

async function* once(chunk: Uint8Array): AsyncGenerator<Uint8Array> {
  yield chunk;
}
