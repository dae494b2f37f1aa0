import type { Interceptor } from "@connectrpc/connect";

/** A token, or where to get the current one. */
export type TokenSource = string | (() => string | Promise<string>);

/** Adds the token to every call, unary and streaming. */
export function createTokenInterceptor(token: TokenSource): Interceptor {
  return (next) => async (req) => {
    const value = typeof token === "string" ? token : await token();
    req.header.set("Authorization", `Bearer ${value}`);
    return next(req);
  };
}
