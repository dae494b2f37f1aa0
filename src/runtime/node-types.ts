import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";

/** A request of node:http, or of node:http2 through its compatibility API. */
export type NodeRequest = IncomingMessage | Http2ServerRequest;
/** The response that belongs to a NodeRequest. */
export type NodeResponse = ServerResponse | Http2ServerResponse;

export function isHttp2(req: NodeRequest): req is Http2ServerRequest {
  return req.httpVersionMajor === 2;
}

export function isHttp2Response(res: NodeResponse): res is Http2ServerResponse {
  return "stream" in res;
}
