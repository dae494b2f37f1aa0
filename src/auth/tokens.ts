import { createHash, timingSafeEqual } from "node:crypto";
import { readFile } from "node:fs/promises";
import { DomainError } from "../errors.ts";
import type { Principal } from "./principal.ts";
import { isScope } from "./scopes.ts";

/** A principal with the SHA-256 of its token. */
export interface TokenEntry {
  readonly hash: Buffer;
  readonly principal: Principal;
}

/** Reads a tokens file. Fails with "config", naming the file, the entry and what would be right. */
export async function readTokens(path: string): Promise<TokenEntry[]> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw wrong(path, cause instanceof Error ? cause.message : String(cause), cause);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw wrong(path, `it is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`, cause);
  }
  const list = isObject(json) ? json["tokens"] : undefined;
  if (!Array.isArray(list)) throw wrong(path, 'it must be an object with a list "tokens"');
  const names = new Set<string>();
  return list.map((entry: unknown, index) => {
    const where = `tokens[${index}]`;
    if (!isObject(entry)) throw wrong(path, `${where} must be an object`);
    for (const key of Object.keys(entry)) {
      if (!["name", "sha256", "scopes", "expires"].includes(key)) {
        throw wrong(path, `${where} has an unknown key "${key}"; it takes name, sha256, scopes and expires`);
      }
    }
    const { name, sha256, scopes, expires } = entry;
    if (typeof name !== "string" || name === "") throw wrong(path, `${where}.name must be a text that is not empty`);
    if (names.has(name)) throw wrong(path, `${where}.name "${name}" is there twice`);
    names.add(name);
    if (typeof sha256 !== "string" || !/^[0-9a-f]{64}$/i.test(sha256)) {
      throw wrong(path, `${where}.sha256 must be the token's SHA-256 in 64 hex digits (printf %s TOKEN | sha256sum)`);
    }
    if (!Array.isArray(scopes) || scopes.length === 0) throw wrong(path, `${where}.scopes must be a list of scopes`);
    for (const scope of scopes as unknown[]) {
      if (typeof scope !== "string" || !isScope(scope)) {
        throw wrong(
          path,
          `${where}.scopes has ${JSON.stringify(scope)}; a scope is greet, admin, data:read:NAME or data:write:NAME, with NAME a stream or a prefix and *`,
        );
      }
    }
    let expiresAtMs: number | undefined;
    if (expires !== undefined) {
      expiresAtMs = typeof expires === "string" && /^\d{4}-\d\d-\d\dT/.test(expires) ? Date.parse(expires) : NaN;
      if (Number.isNaN(expiresAtMs)) throw wrong(path, `${where}.expires must be a time such as 2030-01-31T00:00:00Z`);
    }
    return {
      hash: Buffer.from(sha256, "hex"),
      principal: { name, scopes: scopes as string[], ...(expiresAtMs === undefined ? {} : { expiresAtMs }) },
    };
  });
}

/** The principal whose token this is. Takes as long for every token, so that the time tells nothing. */
export function findToken(entries: readonly TokenEntry[], token: string): Principal | undefined {
  const hash = createHash("sha256").update(token).digest();
  let found: Principal | undefined;
  for (const entry of entries) {
    if (timingSafeEqual(entry.hash, hash)) found = entry.principal;
  }
  return found;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function wrong(path: string, what: string, cause?: unknown): DomainError {
  return new DomainError({ kind: "config", detail: `the tokens file ${path} cannot be used: ${what}` }, { cause });
}
