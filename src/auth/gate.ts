import type { ContextValues } from "@connectrpc/connect";
import { DomainError } from "../errors.ts";
import { principalKey } from "./principal.ts";
import type { Principal } from "./principal.ts";
import { requireScope } from "./scopes.ts";
import type { Permission } from "./scopes.ts";
import type { Verifier } from "./verifier.ts";

/** What the gate sees of a call. */
export interface GateContext {
  /** Absent for what is no RPC: that always needs a token. */
  readonly service?: { readonly typeName: string };
  readonly requestHeader: Headers;
  readonly values: ContextValues;
  /** What its token must allow, as far as the headers tell. */
  readonly needed?: Permission | undefined;
}

export interface GateOptions {
  readonly verifier: Verifier;
  /** Full names of the services that answer without a token. */
  readonly openServices: readonly string[];
  /** Called for each call that is admitted with a token. */
  readonly onPrincipal?: (context: GateContext, principal: Principal, token: string) => void;
}

/**
 * The check that runs on the headers of every call before any of its body is
 * read. Fails with "unauthenticated" when there is no valid token, and with
 * "permission-denied" when its scopes do not cover what the call needs.
 */
export function createRequestGate(options: GateOptions): (context: GateContext) => Promise<void> {
  const open = new Set(options.openServices);
  return async (context) => {
    if (context.service !== undefined && open.has(context.service.typeName)) return;
    const token = tokenOf(context.requestHeader);
    const principal = await options.verifier.verify(token);
    context.values.set(principalKey, principal);
    if (context.needed !== undefined) requireScope(principal, context.needed);
    options.onPrincipal?.(context, principal, token);
  };
}

/**
 * The token in `Acme-Token: TOKEN` or `Authorization: Bearer TOKEN` (RFC 6750,
 * section 2.1; the scheme's case does not matter, RFC 9110, section 11.1). An
 * empty header, or "Bearer" alone, is what an unset variable leaves: no token.
 */
export function tokenOf(headers: Headers): string {
  const own = headers.get("acme-token") ?? "";
  const authorization = headers.get("authorization") ?? "";
  const bearer = authorization === "" ? "" : /^bearer(?: +(\S+))?$/i.exec(authorization)?.slice(1).join("");
  // Another scheme, or two tokens that differ: whoever sent it did not mean this.
  if (bearer === undefined || (own !== "" && bearer !== "" && own !== bearer)) {
    throw new DomainError({ kind: "unauthenticated", detail: "invalid token" });
  }
  const token = own === "" ? bearer : own;
  if (token === "") throw new DomainError({ kind: "unauthenticated", detail: "no token provided" });
  return token;
}
