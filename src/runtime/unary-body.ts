import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import * as connect from "@connectrpc/connect/protocol-connect";
import { BodyCollector } from "../wire/body-collector.ts";
import { inflate } from "../wire/inflate.ts";
import { allocateUncleared } from "../wire/node-platform.ts";
import { unweighedBytes } from "../wire/weight-limits.ts";
import type { ActiveCall } from "./active-call.ts";
import type { RequestLimits } from "./routes.ts";

/** What bounds the request of a unary call that Connect's handler serves. */
export interface UnaryLimits extends RequestLimits {
  readonly acceptCompression: readonly Compression[];
}

/**
 * The request of a Connect unary call. Connect's handler decodes whatever it
 * gets, so the body is read, inflated, weighed and counted before, once the call
 * has passed the gate.
 */
export class UnaryBody {
  readonly #header: Headers;
  readonly #call: ActiveCall;
  readonly #limits: UnaryLimits;
  readonly #compression: Compression | undefined;
  readonly #promised: number | undefined;
  #bytes: Uint8Array | undefined;

  /** Takes the headers for a compressed body away: Connect's handler gets one that is not compressed. */
  constructor(header: Headers, call: ActiveCall, limits: UnaryLimits) {
    this.#header = header;
    this.#call = call;
    this.#limits = limits;
    const length = header.get(connect.headerUnaryContentLength);
    this.#promised = length === null ? undefined : Number(length);
    const encoding = header.get(connect.headerUnaryEncoding);
    // Connect refuses one that is not known.
    this.#compression = limits.acceptCompression.find(({ name }) => name === encoding);
    if (this.#compression === undefined) return;
    header.delete(connect.headerUnaryEncoding);
    header.delete(connect.headerUnaryContentLength);
    // Without it the response is compressed as the request is.
    if (!header.get(connect.headerUnaryAcceptEncoding)) {
      header.set(connect.headerUnaryAcceptEncoding, this.#compression.name);
    }
  }

  /** Reads the body. Rejects with RESOURCE_EXHAUSTED, or INVALID_ARGUMENT, for one that must not be decoded. */
  async read(chunks: AsyncIterable<Uint8Array>): Promise<void> {
    const { memory } = this.#call;
    const { maxMessageBytes } = this.#limits;
    if (this.#promised !== undefined && this.#promised > maxMessageBytes) throw tooLarge(this.#promised, this.#limits);
    const body = new BodyCollector(allocateUncleared, this.#promised);
    for await (const chunk of chunks) {
      const length = body.length + chunk.byteLength;
      if (length > maxMessageBytes) throw tooLarge(length, this.#limits);
      const before = body.allocatedBytes;
      body.add(chunk);
      if (body.allocatedBytes > before && !memory.charge(body.allocatedBytes - before)) throw memory.exhausted();
    }
    let bytes = body.bytes;
    if (this.#compression !== undefined) bytes = await inflate(this.#compression, bytes, maxMessageBytes, memory);
    const json = connect.parseContentType(this.#header.get("content-type"))?.binary === false;
    memory.release(body.allocatedBytes);
    countMessage(bytes, json, this.#call, this.#limits);
    this.#bytes = bytes;
  }

  /** What has been read, once. */
  async *take(): AsyncGenerator<Uint8Array> {
    const bytes = this.#bytes;
    this.#bytes = undefined;
    if (bytes !== undefined) yield bytes;
  }
}

/**
 * Weighs and counts the message in the query of a GET, which Connect's handler
 * is about to decode: a little of it can become much when it is inflated.
 */
export async function weighQuery(url: string, call: ActiveCall, limits: UnaryLimits): Promise<void> {
  const query = new URL(url).searchParams;
  const message = query.get("message") ?? "";
  const compression = limits.acceptCompression.find(({ name }) => name === query.get("compression"));
  let bytes: Uint8Array = Buffer.from(message, query.get("base64") === "1" ? "base64url" : "utf8");
  if (compression !== undefined) bytes = await inflate(compression, bytes, limits.maxMessageBytes, call.memory);
  countMessage(bytes, query.get("encoding") === "json", call, limits);
}

/** The message is released with the call. */
function countMessage(bytes: Uint8Array, json: boolean, { memory }: ActiveCall, limits: UnaryLimits): void {
  if (bytes.byteLength <= unweighedBytes) return;
  const weight = json ? limits.weighJson(bytes) : limits.weigh(bytes);
  if (!memory.charge(weight)) throw memory.exhausted();
}

function tooLarge(bytes: number, { maxMessageBytes }: UnaryLimits): ConnectError {
  return new ConnectError(
    `message size ${bytes} is larger than configured readMaxBytes ${maxMessageBytes}`,
    Code.ResourceExhausted,
  );
}
