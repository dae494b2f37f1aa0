import type { ContextValues } from "@connectrpc/connect";
import type { UniversalServerRequest } from "@connectrpc/connect/protocol";
import { TLSSocket } from "node:tls";
import { raceSignal } from "../async/signals.ts";
import type { ActiveCall } from "./active-call.ts";
import { isHttp2 } from "./node-types.ts";
import type { NodeRequest } from "./node-types.ts";

/** What Connect's handlers take, from what Node gives. */
export function toUniversalRequest(
  req: NodeRequest,
  header: Headers,
  call: ActiveCall,
  contextValues: ContextValues,
): UniversalServerRequest {
  const scheme = req.socket instanceof TLSSocket ? "https" : "http";
  const authority = (isHttp2(req) ? req.authority : req.headers.host) ?? "localhost";
  return {
    // Connect refuses bidi on HTTP/1.1, because a client may wait for full duplex in vain. Half duplex
    // works there, and Node answers while it reads, so that the call is worth more than the refusal.
    httpVersion: call.shape === "bidi" ? "2.0" : req.httpVersion,
    method: req.method ?? "",
    url: urlOf(req.url ?? "/", scheme, authority),
    header,
    body: bodyOf(req, call),
    signal: call.signal,
    contextValues,
  };
}

/** The headers of the request, without HTTP/2's pseudo-headers. */
export function headersOf(req: NodeRequest): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(req.headers)) {
    if (name.startsWith(":") || value === undefined) continue;
    if (Array.isArray(value)) {
      for (const one of value) headers.append(name, one);
    } else {
      headers.append(name, value);
    }
  }
  return headers;
}

function urlOf(path: string, scheme: string, authority: string): string {
  try {
    return new URL(path, `${scheme}://${authority}`).toString();
  } catch {
    // A Host header can be anything; the path is what the call needs.
    return new URL(path, `${scheme}://localhost`).toString();
  }
}

/**
 * The chunks of the body. Ends with the call's reason when the call is ended,
 * also while it waits; leaving it early does not destroy the connection, so that
 * the response still arrives.
 */
async function* bodyOf(req: NodeRequest, call: ActiveCall): AsyncGenerator<Uint8Array> {
  const chunks = req.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Uint8Array>;
  try {
    for (;;) {
      const result = await raceSignal(chunks.next(), call.signal);
      if (result.done === true) return;
      call.bytesIn += result.value.byteLength;
      call.touch();
      yield result.value;
    }
  } finally {
    // Not awaited: while a read is pending it would wait for the next chunk.
    chunks.return?.().catch(() => undefined);
  }
}
