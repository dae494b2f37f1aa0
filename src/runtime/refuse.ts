import type { ConnectError } from "@connectrpc/connect";
import { errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { framingOf } from "./enveloped-protocols.ts";
import type { HttpExchange } from "./exchange.ts";

/**
 * Answers a request that is not to reach any method, in the terms of the protocol that asked. `status` is HTTP's, for
 * unary Connect and for what is no RPC. Clients of the other protocols take what is not 200 for the answer of a proxy,
 * and do not show the message.
 */
export function refuse(exchange: HttpExchange, status: number, error: ConnectError): void {
  const framing = framingOf(exchange.header.get("content-type"), "bidi");
  if (framing !== undefined) {
    const { protocol, binary } = framing;
    const { envelope, trailer } = protocol.end(new Headers(), error);
    exchange.sendHead(200, new Headers({ "content-type": protocol.contentType(binary) }));
    if (envelope !== undefined) {
      const prefix = new Uint8Array(5);
      prefix[0] = envelope.flags;
      new DataView(prefix.buffer).setUint32(1, envelope.payload.byteLength);
      exchange.write([prefix, envelope.payload]);
    }
    exchange.end(trailer);
    return;
  }
  const body = errorToJsonBytes(error, undefined);
  const header = { "content-type": "application/json", "content-length": String(body.byteLength) };
  exchange.sendHead(status, new Headers(header));
  if (exchange.method !== "HEAD") exchange.write([body]);
  exchange.end();
}
