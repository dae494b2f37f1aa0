import type { IncomingMessage, ServerResponse } from "node:http";
import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { raise } from "../async/guard.ts";
import type { OnUnexpected } from "../async/guard.ts";
import type { HttpExchange } from "./exchange.ts";
import { NodeHttp1Exchange } from "./node-http1-exchange.ts";
import { NodeHttp2Exchange } from "./node-http2-exchange.ts";

/** What node:http and node:http2 call for each request. */
export interface NodeHandlers {
  onRequest(req: IncomingMessage, res: ServerResponse): void;
  onStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void;
}

/** `onUnexpected` gets what an exchange fails with that is neither its peer's doing nor its call's. */
export function nodeHandlers(
  serve: (exchange: HttpExchange) => void,
  onUnexpected: OnUnexpected = raise,
): NodeHandlers {
  return {
    onRequest(req, res) {
      serve(new NodeHttp1Exchange(req, res, onUnexpected));
    },
    onStream(stream, headers) {
      serve(new NodeHttp2Exchange(stream, headers, onUnexpected));
    },
  };
}
