import { cors } from "@connectrpc/connect";
import type { HttpExchange } from "./exchange.ts";

type Serve = (exchange: HttpExchange) => void;

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
export function withCors(serve: Serve, options: CorsOptions): Serve {
  if (options.origins.length === 0) return serve;
  const any = options.origins.includes("*");
  const allowed = new Set(options.origins);
  const allowHeaders = [...cors.allowedHeaders, ...options.requestHeaders].join(", ");
  const exposeHeaders = [
    ...cors.exposedHeaders,
    ...options.responseHeaders,
    // Connect's unary protocol sends trailers as headers with this prefix.
    ...options.responseHeaders.map((name) => `Trailer-${name}`),
  ].join(", ");
  return (exchange) => {
    const origin = exchange.header.get("origin");
    const admitted = origin !== null && (any || allowed.has(origin));
    exchange.addHeader("vary", "Origin");
    if (admitted) {
      exchange.addHeader("access-control-allow-origin", any ? "*" : origin);
      exchange.addHeader("access-control-expose-headers", exposeHeaders);
    }
    if (exchange.method === "OPTIONS" && exchange.header.has("access-control-request-method")) {
      if (admitted) {
        exchange.addHeader("access-control-allow-methods", cors.allowedMethods.join(", "));
        exchange.addHeader("access-control-allow-headers", allowHeaders);
        exchange.addHeader("access-control-max-age", String(preflightMaxAge));
      }
      exchange.sendHead(204, new Headers());
      exchange.end();
      return;
    }
    serve(exchange);
  };
}
