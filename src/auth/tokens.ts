import { createHash, timingSafeEqual } from "node:crypto";
import { readFile } from "node:fs/promises";
import { DomainError } from "../errors.ts";
import type { Principal } from "./principal.ts";
import { isScope, scopeForms } from "./scopes.ts";

/** A principal with the SHA-256 of its token. */
export interface TokenEntry {
  readonly hash: Buffer;
  readonly principal: Principal;
}

/**
 * Reads a tokens file. Fails with "config", naming the file, the entry and what
 * would be right; never with a value that may be a token.
 */
export async function readTokens(path: string): Promise<TokenEntry[]> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw wrong(path, cause instanceof Error ? cause.message : String(cause), cause);
  }
  let json: unknown;
  try {
    // Some editors begin a file with a byte order mark.
    json = JSON.parse(text.replace(/^\uFEFF/, ""));
  } catch {
    // The parser's message quotes the file, and so perhaps a token that somebody wrote there.
    throw wrong(path, `it is not JSON${text.trim() === "" ? ", it is empty" : ""}; it must be ${example}`);
  }
  const list = isObject(json) ? json["tokens"] : undefined;
  if (!Array.isArray(list)) throw wrong(path, `it must be an object with a list "tokens": ${example}`);
  const entries: TokenEntry[] = [];
  for (const [index, entry] of list.entries()) {
    const where = `tokens[${index}]`;
    const read = readEntry(entry, (what) => wrong(path, `${where}${what}`));
    const same = entries.findIndex(({ principal }) => principal.name === read.principal.name);
    if (same !== -1) throw wrong(path, `${where}.name is that of tokens[${same}] too; each name must be there once`);
    const twin = entries.findIndex(({ hash }) => hash.equals(read.hash));
    if (twin !== -1) {
      throw wrong(
        path,
        `${where}.sha256 is that of tokens[${twin}] too; one token must have one entry, with all its scopes`,
      );
    }
    entries.push(read);
  }
  return entries;
}

const example = '{"tokens": [{"name": "...", "sha256": "...", "scopes": ["..."]}]}';
const keys = ["name", "sha256", "scopes", "expires"];
const hashOfNothing = createHash("sha256").digest("hex");

/** `fail` makes the error of "tokens[0]" and what it is given. */
function readEntry(entry: unknown, fail: (what: string) => DomainError): TokenEntry {
  if (!isObject(entry)) throw fail(` must be an object with ${keys.join(", ")}`);
  // The key itself is not shown: a token that is written in the place of a key is one of the mistakes.
  const unknown = Object.keys(entry).findIndex((key) => !keys.includes(key));
  if (unknown !== -1) throw fail(`: key number ${unknown + 1} is unknown; the keys are ${keys.join(", ")}`);
  const { name, sha256, scopes, expires } = entry;
  if (typeof name !== "string" || name === "") throw fail(".name must be a text that is not empty");
  if (typeof sha256 !== "string" || !/^[0-9a-f]{64}$/i.test(sha256)) {
    throw fail(".sha256 must be the token's SHA-256 in 64 hex digits (printf %s TOKEN | sha256sum)");
  }
  if (sha256.toLowerCase() === hashOfNothing) {
    throw fail(".sha256 is that of an empty text; it must be the token's (printf %s TOKEN | sha256sum)");
  }
  if (!Array.isArray(scopes) || scopes.length === 0) throw fail(`.scopes must be a list of scopes; ${scopeForms}`);
  const list: unknown[] = scopes;
  const isScopes = (texts: unknown[]): texts is string[] => texts.every((t) => typeof t === "string" && isScope(t));
  if (!isScopes(list)) {
    const at = list.findIndex((scope) => !isScopes([scope]));
    throw fail(`.scopes[${at}] is not a scope; ${scopeForms}`);
  }
  const principal = { name, scopes: list };
  const hash = Buffer.from(sha256, "hex");
  if (expires === undefined) return { hash, principal };
  const expiresAtMs = typeof expires === "string" ? parseTime(expires) : NaN;
  if (Number.isNaN(expiresAtMs)) {
    throw fail(".expires must be a time with its zone, such as 2030-01-31T00:00:00Z or 2030-01-31T00:00:00+01:00");
  }
  return { hash, principal: { ...principal, expiresAtMs } };
}

/** RFC 3339, section 5.6, in milliseconds since the Unix epoch; NaN for anything else, also for February 30th. */
function parseTime(text: string): number {
  const date = /^(\d{4}-\d\d-\d\d)T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.exec(text)?.[1];
  if (date === undefined) return NaN;
  const midnight = new Date(`${date}T00:00:00Z`);
  if (Number.isNaN(midnight.getTime()) || !midnight.toISOString().startsWith(date)) return NaN;
  return Date.parse(text);
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
