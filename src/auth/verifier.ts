import { createHash } from "node:crypto";
import { settleAll } from "../async/settle-all.ts";
import { DomainError } from "../errors.ts";
import { createJwtVerifier, isUrl } from "./jwt.ts";
import type { Principal } from "./principal.ts";
import { findToken, readTokens } from "./tokens.ts";
import type { TokenEntry } from "./tokens.ts";
import { fileState, watchFile } from "./watch-file.ts";

export interface VerifierOptions {
  readonly tokensFile?: string | undefined;
  readonly jwks?: string | undefined;
  readonly jwtIssuer?: string | undefined;
  readonly jwtAudience?: string | undefined;
  /** A token with every scope, used when there is neither a tokens file nor a JWKS. */
  readonly sampleToken?: string | undefined;
  /** Called when something has been read again: a token that was valid may not be any more. */
  readonly onReload?: () => void;
  /** Called when a changed file cannot be read; what was read before stays in force. */
  readonly onError: (error: unknown) => void;
  readonly now?: () => number;
}

/** Tells who a token stands for. */
export interface Verifier {
  /** Fails with "unauthenticated": "invalid token" or "token expired"; or with "keys-unavailable". */
  verify(token: string): Promise<Principal>;
  /**
   * Reads the tokens file and the keys again. Fails if one of them is wrong, which
   * then stays as it was; the other is read all the same.
   */
  reload(): Promise<void>;
  close(): void;
}

/** One place that tokens come from. */
interface Source {
  /** Undefined for a token that is none of its. */
  verify(token: string): Promise<Principal | undefined>;
  reload(): Promise<void>;
  close(): void;
}

/** Reads the tokens file and the keys. Fails with "config" if they are wrong. */
export async function createVerifier(options: VerifierOptions): Promise<Verifier> {
  const now = options.now ?? Date.now;
  const { tokensFile, jwks } = options;
  /** Counts what has been read, so that nobody is admitted by what has been replaced meanwhile. */
  let generation = 0;
  const replaced = (): void => {
    generation++;
    // In a turn of its own, when whoever was admitted before it is known as admitted.
    setImmediate(() => options.onReload?.());
  };
  const sources: Source[] = [];
  const close = (): void => {
    for (const source of sources) source.close();
  };
  const add = async (path: string | undefined, open: () => Promise<Omit<Source, "close">>): Promise<void> => {
    sources.push(await openSource(path, open, replaced, options.onError));
  };
  try {
    if (tokensFile !== undefined) await add(tokensFile, () => openTokens(tokensFile, now));
    if (jwks !== undefined) await add(isUrl(jwks) ? undefined : jwks, () => openJwts({ ...options, jwks }, now));
  } catch (error) {
    close();
    throw error;
  }
  if (sources.length === 0 && options.sampleToken !== undefined) {
    const hash = createHash("sha256").update(options.sampleToken).digest();
    const entries = [{ hash, principal: { name: "sample", scopes: ["admin"] } }];
    sources.push({ ...fixedTokens(() => entries, now), reload: () => Promise.resolve(), close: () => undefined });
  }

  const check = async (token: string): Promise<Principal> => {
    for (const source of sources) {
      const principal = await source.verify(token);
      if (principal !== undefined) return principal;
    }
    throw new DomainError({ kind: "unauthenticated", detail: "invalid token" });
  };
  return {
    async verify(token) {
      for (;;) {
        const before = generation;
        const principal = await check(token);
        if (before === generation) return principal;
      }
    },
    reload: () => settleAll(sources.map((source) => source.reload())),
    close,
  };
}

/** Opens a source that is read again on request and, if it is a file, on change; one reading at a time. */
async function openSource(
  path: string | undefined,
  open: () => Promise<Omit<Source, "close">>,
  replaced: () => void,
  onError: (error: unknown) => void,
): Promise<Source> {
  // Before it is read: a change in between is one more change, and not a missed one.
  const seen = path === undefined ? "" : await fileState(path);
  const source = await open();
  let last = Promise.resolve();
  const reload = (): Promise<void> => {
    const next = last.then(() => source.reload()).then(replaced);
    last = next.catch(() => undefined);
    return next;
  };
  const stop = path === undefined ? undefined : watchFile(path, seen, () => reload().catch(onError));
  return { verify: (token) => source.verify(token), reload, close: () => stop?.() };
}

async function openTokens(path: string, now: () => number): Promise<Omit<Source, "close">> {
  let entries = await readTokens(path);
  return {
    ...fixedTokens(() => entries, now),
    async reload() {
      entries = await readTokens(path);
    },
  };
}

function fixedTokens(entries: () => readonly TokenEntry[], now: () => number): Pick<Source, "verify"> {
  return {
    async verify(token) {
      const principal = findToken(entries(), token);
      if (principal?.expiresAtMs !== undefined && principal.expiresAtMs <= now()) {
        throw new DomainError({ kind: "unauthenticated", detail: "token expired" });
      }
      return principal;
    },
  };
}

async function openJwts(
  options: VerifierOptions & { readonly jwks: string },
  now: () => number,
): Promise<Omit<Source, "close">> {
  const jwt = await createJwtVerifier({
    jwks: options.jwks,
    issuer: options.jwtIssuer,
    audience: options.jwtAudience,
    now,
  });
  return {
    verify: (token) => (token.split(".").length === 3 ? jwt.verify(token) : Promise.resolve(undefined)),
    reload: () => jwt.reload(),
  };
}
