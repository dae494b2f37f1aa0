import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { constants } from "node:http2";
import type { OutgoingHttpHeaders } from "node:http";
import type { ActiveCall } from "./active-call.ts";
import { isHttp2, isHttp2Response } from "./node-types.ts";
import type { NodeRequest, NodeResponse } from "./node-types.ts";

/** How long a connection is still read after an answer that did not wait for the request, in milliseconds. */
const lingerMs = 1000;

/** Sends the status and the headers, unless they have been sent. */
export function sendHead(res: NodeResponse, status: number, header: Headers | undefined): void {
  if (res.headersSent || res.destroyed) return;
  const headers = toNodeHeaders(header);
  // Both classes have this overload, but TypeScript cannot call a union of overloads.
  (res.writeHead as (status: number, headers: OutgoingHttpHeaders) => void)(status, headers);
}

/** Sends the headers of a streamed response now, before its first message. */
export function flushHead(res: NodeResponse, header: Headers): void {
  if (res.headersSent || res.destroyed) return;
  sendHead(res, 200, header);
  (res as { flushHeaders: () => void }).flushHeaders();
}

/** Writes the response, waiting whenever the peer does not keep up. */
export async function writeResponse(
  response: UniversalServerResponse,
  req: NodeRequest,
  res: NodeResponse,
  call: ActiveCall,
): Promise<void> {
  const chunks = response.body?.[Symbol.asyncIterator]();
  try {
    if (chunks !== undefined) {
      for (let chunk = await chunks.next(); chunk.done !== true; chunk = await chunks.next()) {
        sendHead(res, response.status, response.header);
        call.bytesOut += chunk.value.byteLength;
        call.touch();
        if (!(res.write as (chunk: Uint8Array) => boolean)(chunk.value)) await drained(res, call);
        call.touch();
        if (call.closed) return;
      }
    }
    sendHead(res, response.status, response.header);
    if (response.trailer !== undefined) res.addTrailers(toNodeHeaders(response.trailer));
    finish(req, res);
  } finally {
    // Runs the handler's `finally` if the peer left; not awaited, because a handler may be slow to let go.
    chunks?.return?.().catch(() => undefined);
  }
}

/** Ends the response, also if the request is still arriving. */
export function finish(req: NodeRequest, res: NodeResponse): void {
  if (req.complete) {
    res.end();
    return;
  }
  if (isHttp2Response(res)) {
    const { stream } = res;
    // RFC 9113, section 8.1: a complete answer may be followed by RST_STREAM(NO_ERROR) to ask the client
    // to stop sending. Complete is after the trailers, which Node sends in its own listener.
    stream.once("wantTrailers", () => {
      setImmediate(() => {
        if (!req.complete && !stream.closed) stream.close(constants.NGHTTP2_NO_ERROR);
      });
    });
    res.end();
    return;
  }
  if (!isHttp2(req)) {
    const { socket } = req;
    // What is still arriving is read for a while: closing at once would reset the connection, and the reset
    // can overtake the answer (RFC 9112, section 9.6). A client that goes on sending is cut off then.
    res.end(() => {
      if (req.complete) return;
      req.resume();
      const timer = setTimeout(() => {
        if (!req.complete) socket.destroy();
      }, lingerMs).unref();
      req.once("close", () => {
        clearTimeout(timer);
      });
    });
  }
}

/** Waits until the peer has taken what was written, or the call is over. */
function drained(res: NodeResponse, call: ActiveCall): Promise<void> {
  return new Promise((resolve) => {
    let cleanup = (): void => undefined;
    const done = (): void => {
      res.off("drain", done);
      cleanup();
      resolve();
    };
    res.on("drain", done);
    cleanup = call.onClose(done);
  });
}

function toNodeHeaders(header: Headers | undefined): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {};
  if (header === undefined) return headers;
  for (const [name, value] of header) {
    headers[name] = name === "set-cookie" ? header.getSetCookie() : value;
  }
  return headers;
}
