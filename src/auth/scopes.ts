import { DomainError } from "../errors.ts";
import type { Principal } from "./principal.ts";

/** What a call needs. */
export type Need =
  { readonly kind: "greet" } | { readonly kind: "data"; readonly access: "read" | "write"; readonly stream: string };

/**
 * Whether the text is a scope: `greet`, `admin`, `data:read:NAME`,
 * `data:write:NAME`. A NAME that ends with `*` stands for every stream whose
 * name begins with what precedes it.
 */
export function isScope(text: string): boolean {
  return /^(greet|admin|data:(read|write):[a-z0-9._/-]*\*?)$/.test(text) && !/:$/.test(text);
}

/** Whether the principal's scopes cover the need. */
export function allows(principal: Principal, need: Need): boolean {
  return principal.scopes.some((scope) => {
    if (scope === "admin") return true;
    if (need.kind === "greet") return scope === "greet";
    const prefix = `data:${need.access}:`;
    if (!scope.startsWith(prefix)) return false;
    const name = scope.slice(prefix.length);
    return name.endsWith("*") ? need.stream.startsWith(name.slice(0, -1)) : need.stream === name;
  });
}

/** Fails with "permission-denied" unless the principal's scopes cover the need. */
export function requireScope(principal: Principal | undefined, need: Need): void {
  if (principal !== undefined && allows(principal, need)) return;
  const needs = need.kind === "greet" ? "greet" : `data:${need.access}:${need.stream}`;
  throw new DomainError({ kind: "permission-denied", needs });
}
