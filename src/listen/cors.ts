import { cors } from "@connectrpc/connect";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";

type Handler = (req: IncomingMessage | Http2ServerRequest, res: ServerResponse | Http2ServerResponse) => void;

/** Browsers keep the answer to a preflight for at most this long (Chromium's cap), in seconds. */
const preflightMaxAge = 7200;

export interface CorsOptions {
  /** Origins whose pages may call, such as `https://app.example.com`; `*` stands for any. */
  readonly origins: readonly string[];
  /** Request headers to allow besides those that the RPC protocols need. */
  readonly requestHeaders: readonly string[];
  /** Response headers and trailers to show to pages besides those of the RPC protocols. */
  readonly responseHeaders: readonly string[];
}

/**
 * Answers CORS preflights, and marks responses as readable for pages of the
 * allowed origins (https://fetch.spec.whatwg.org/#http-cors-protocol).
 * Credentials are headers, never cookies, so `Access-Control-Allow-Credentials`
 * is not sent.
 */
export function withCors(handler: Handler, options: CorsOptions): Handler {
  if (options.origins.length === 0) return handler;
  const any = options.origins.includes("*");
  const allowed = new Set(options.origins);
  const allowHeaders = [...cors.allowedHeaders, ...options.requestHeaders].join(", ");
  const exposeHeaders = [
    ...cors.exposedHeaders,
    ...options.responseHeaders,
    // Connect's unary protocol sends trailers as headers with this prefix.
    ...options.responseHeaders.map((name) => `Trailer-${name}`),
  ].join(", ");
  return (req, res) => {
    const origin = req.headers.origin;
    const admitted = origin !== undefined && (any || allowed.has(origin));
    res.setHeader("Vary", "Origin");
    if (admitted) {
      res.setHeader("Access-Control-Allow-Origin", any ? "*" : origin);
      res.setHeader("Access-Control-Expose-Headers", exposeHeaders);
    }
    if (req.method === "OPTIONS" && req.headers["access-control-request-method"] !== undefined) {
      if (admitted) {
        res.setHeader("Access-Control-Allow-Methods", cors.allowedMethods.join(", "));
        res.setHeader("Access-Control-Allow-Headers", allowHeaders);
        res.setHeader("Access-Control-Max-Age", String(preflightMaxAge));
      }
      res.statusCode = 204;
      res.end();
      return;
    }
    handler(req, res);
  };
}
