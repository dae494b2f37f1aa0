import { DomainError } from "../errors.ts";
import type { Principal } from "./principal.ts";

/** What a call needs. */
export type Permission =
  | { readonly kind: "greet" | "admin" }
  | { readonly kind: "data"; readonly access: "read" | "write"; readonly stream: string }
  /** A method as `tally.v1.TallyService/Add`, a service as `tally.v1.TallyService`, or the path of a stream to take over. */
  | { readonly kind: "rpc"; readonly name: string };

/** What a scope can be, for messages. */
export const scopeForms =
  "a scope is greet, admin, data:read:NAME or data:write:NAME with NAME a stream, or rpc:NAME with NAME a service such as tally.v1.TallyService, a method such as tally.v1.TallyService/Add or a path such as /tunnel; each NAME may be a prefix and * at its end";

const identifier = "[A-Za-z_]\\w*";
const scopeForm = new RegExp(
  [
    "greet",
    "admin",
    "data:(?:read|write):(?:[a-z0-9._/-]+\\*?|\\*)",
    // https://protobuf.dev/reference/protobuf/proto3-spec/#identifiers
    `rpc:${identifier}(?:\\.${identifier})*(?:/${identifier})?`,
    `rpc:(?:${identifier}[.])*(?:${identifier})?(?:(?<=\\w)/(?:${identifier})?)?\\*`,
    "rpc:/[!-)+-~]*\\*?",
  ]
    .map((form) => `^${form}$`)
    .join("|"),
);

/**
 * Whether the text is a scope: `greet`, `admin`, `data:read:NAME`, `data:write:NAME`, `rpc:NAME`. A NAME that ends with
 * `*` stands for everything whose name begins with what precedes it.
 */
export function isScope(text: string): boolean {
  return scopeForm.test(text);
}

/** What a call needs that is to be made with this scope. Fails with "config" if it is none. */
export function parseScope(scope: string): Permission {
  if (!isScope(scope)) {
    throw new DomainError({ kind: "config", detail: `"${scope}" is not a scope: ${scopeForms}` });
  }
  if (scope === "greet" || scope === "admin") return { kind: scope };
  if (scope.startsWith("rpc:")) return { kind: "rpc", name: scope.slice("rpc:".length) };
  const [, access = "", stream = ""] = /^data:(read|write):(.*)$/.exec(scope) ?? [];
  return { kind: "data", access: access === "read" ? "read" : "write", stream };
}

/** Whether the principal's scopes cover what is needed. */
export function allows(principal: Principal, needed: Permission): boolean {
  return principal.scopes.some((scope) => scope === "admin" || covers(scope, needed));
}

function covers(scope: string, needed: Permission): boolean {
  switch (needed.kind) {
    case "greet":
    case "admin":
      return scope === needed.kind;
    case "data": {
      const prefix = `data:${needed.access}:`;
      return scope.startsWith(prefix) && isNamedBy(scope.slice(prefix.length), needed.stream);
    }
    case "rpc": {
      if (!scope.startsWith("rpc:")) return false;
      const name = scope.slice("rpc:".length);
      // A service's name stands for its methods.
      return isNamedBy(name, needed.name) || (!name.includes("/") && needed.name.startsWith(`${name}/`));
    }
  }
}

function isNamedBy(pattern: string, name: string): boolean {
  return pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}

/** Fails with "permission-denied" unless the principal's scopes cover what is needed. */
export function requireScope(principal: Principal | undefined, needed: Permission): void {
  if (principal !== undefined && allows(principal, needed)) return;
  throw new DomainError({ kind: "permission-denied", needs: scopesFor(needed) });
}

/** The scopes that would do, the widest first. */
function scopesFor(needed: Permission): string {
  switch (needed.kind) {
    case "greet":
    case "admin":
      return needed.kind;
    case "data":
      return `data:${needed.access}:${needed.stream}`;
    case "rpc": {
      const service = /^([^/*]+)\/[^*]+$/.exec(needed.name)?.[1];
      return service === undefined ? `rpc:${needed.name}` : `rpc:${service}, or rpc:${needed.name}`;
    }
  }
}

/** The streams that the principal's scopes open: names, and `PREFIX*` for every name that begins with PREFIX. */
export function streamsOpenTo({ scopes }: Principal, access: "read" | "write"): string[] {
  if (scopes.includes("admin")) return ["*"];
  const prefix = `data:${access}:`;
  return scopes.filter((scope) => scope.startsWith(prefix)).map((scope) => scope.slice(prefix.length));
}
