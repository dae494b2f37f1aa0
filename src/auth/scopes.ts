import { DomainError } from "../errors.ts";
import type { Principal } from "./principal.ts";

/** What a call needs. */
export type Need =
  | { readonly kind: "greet" | "admin" }
  | { readonly kind: "data"; readonly access: "read" | "write"; readonly stream: string };

/**
 * Whether the text is a scope: `greet`, `admin`, `data:read:NAME`,
 * `data:write:NAME`. A NAME that ends with `*` stands for every stream whose
 * name begins with what precedes it.
 */
export function isScope(text: string): boolean {
  return /^(greet|admin|data:(read|write):[a-z0-9._/-]*\*?)$/.test(text) && !/:$/.test(text);
}

/** What a call needs that is to be made with this scope. Fails with "config" if it is none. */
export function needOf(scope: string): Need {
  if (!isScope(scope)) {
    const detail = `"${scope}" is not a scope: give greet, admin, data:read:NAME or data:write:NAME`;
    throw new DomainError({ kind: "config", detail });
  }
  if (scope === "greet" || scope === "admin") return { kind: scope };
  const [, access = "", stream = ""] = /^data:(read|write):(.*)$/.exec(scope) ?? [];
  return { kind: "data", access: access === "read" ? "read" : "write", stream };
}

/** Whether the principal's scopes cover the need. */
export function allows(principal: Principal, need: Need): boolean {
  return principal.scopes.some((scope) => {
    if (scope === "admin") return true;
    if (need.kind !== "data") return scope === need.kind;
    const prefix = `data:${need.access}:`;
    if (!scope.startsWith(prefix)) return false;
    const name = scope.slice(prefix.length);
    return name.endsWith("*") ? need.stream.startsWith(name.slice(0, -1)) : need.stream === name;
  });
}

/** The streams that the principal's scopes open: names, and `PREFIX*` for every name that begins with PREFIX. */
export function streamsOpenTo({ scopes }: Principal, access: "read" | "write"): string[] {
  if (scopes.includes("admin")) return ["*"];
  const prefix = `data:${access}:`;
  return scopes.filter((scope) => scope.startsWith(prefix)).map((scope) => scope.slice(prefix.length));
}

/** Fails with "permission-denied" unless the principal's scopes cover the need. */
export function requireScope(principal: Principal | undefined, need: Need): void {
  if (principal !== undefined && allows(principal, need)) return;
  const needs = need.kind === "data" ? `data:${need.access}:${need.stream}` : need.kind;
  throw new DomainError({ kind: "permission-denied", needs });
}
