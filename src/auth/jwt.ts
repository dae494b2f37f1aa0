import { createLocalJWKSet, createRemoteJWKSet, errors, jwtVerify } from "jose";
import type { JSONWebKeySet, JWTPayload, JWTVerifyGetKey, JWTVerifyOptions } from "jose";
import { readFile } from "node:fs/promises";
import { DomainError } from "../errors.ts";
import type { Principal } from "./principal.ts";
import { isScope } from "./scopes.ts";

export interface JwtOptions {
  /** A file, or an http(s) URL. */
  readonly jwks: string;
  readonly issuer?: string | undefined;
  readonly audience?: string | undefined;
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
}

/** Public keys only: with a shared secret, whoever can verify could also sign. */
const algorithms = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519",
];

/** Verifies JWTs (RFC 7519) with keys that can be read again. */
export interface JwtVerifier {
  /** Fails with "unauthenticated", or with "keys-unavailable" when it cannot be told. */
  verify(token: string): Promise<Principal>;
  /** Reads the keys again. Fails, and keeps those it had, with "config" or "keys-unavailable". */
  reload(): Promise<void>;
}

/** Where keys come from. */
interface Keys {
  readonly get: JWTVerifyGetKey;
  reload(): Promise<void>;
}

/** Reads the keys, from a file at once, from a URL when they are needed. Fails with "config". */
export async function createJwtVerifier(options: JwtOptions): Promise<JwtVerifier> {
  const keys = isUrl(options.jwks) ? remoteKeys(options.jwks) : await fileKeys(options.jwks);
  const unavailable = `the keys of --jwks ${withoutSecrets(options.jwks)} cannot be used`;
  return {
    async verify(token) {
      let payload: JWTPayload;
      try {
        payload = await verifyWithAny(token, keys.get, {
          algorithms,
          currentDate: new Date(options.now()),
          ...(options.issuer === undefined ? {} : { issuer: options.issuer }),
          ...(options.audience === undefined ? {} : { audience: options.audience }),
        });
      } catch (cause) {
        if (isKeysFault(cause)) {
          throw new DomainError({ kind: "keys-unavailable" }, { cause: new Error(unavailable, { cause }) });
        }
        const detail = cause instanceof errors.JWTExpired ? "token expired" : "invalid token";
        throw new DomainError({ kind: "unauthenticated", detail }, { cause });
      }
      const { sub, exp } = payload;
      if (typeof sub !== "string" || sub === "" || exp === undefined) {
        throw new DomainError({ kind: "unauthenticated", detail: "invalid token" });
      }
      return { name: sub, scopes: scopesOf(payload), expiresAtMs: exp * 1000 };
    },
    async reload() {
      try {
        await keys.reload();
      } catch (cause) {
        if (cause instanceof DomainError) throw cause;
        throw new DomainError({ kind: "keys-unavailable" }, { cause: new Error(unavailable, { cause }) });
      }
    },
  };
}

/** Whether `--jwks` is a URL rather than a file. */
export function isUrl(jwks: string): boolean {
  return /^https?:/i.test(jwks);
}

function remoteKeys(jwks: string): Keys {
  if (!URL.canParse(jwks)) {
    throw new DomainError({
      kind: "config",
      detail: "--jwks is not a URL that can be read, such as https://issuer.example/jwks.json",
    });
  }
  const get = createRemoteJWKSet(new URL(jwks));
  return { get, reload: () => get.reload() };
}

async function fileKeys(path: string): Promise<Keys> {
  let keys = await readKeys(path);
  return {
    get: (header, token) => keys(header, token),
    async reload() {
      keys = await readKeys(path);
    },
  };
}

async function readKeys(path: string): Promise<JWTVerifyGetKey> {
  const wrong = (what: string, cause?: unknown): DomainError => {
    const detail = `--jwks ${path} cannot be used: ${what}; it must be a file or a URL with a JSON Web Key Set`;
    return new DomainError({ kind: "config", detail }, { cause });
  };
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw wrong(cause instanceof Error ? cause.message : String(cause), cause);
  }
  let keySet: JSONWebKeySet;
  let keys: JWTVerifyGetKey;
  try {
    keySet = JSON.parse(text) as JSONWebKeySet;
    keys = createLocalJWKSet(keySet);
  } catch (cause) {
    // The parser's message quotes the file, which may hold a private key by mistake.
    throw cause instanceof SyntaxError ? wrong("it is not JSON") : wrong("it is no key set", cause);
  }
  if (keySet.keys.some((key) => "d" in key || key.kty === "oct")) {
    throw wrong("it holds a private or a shared key, and only public keys belong there");
  }
  return keys;
}

/** As `jwtVerify`; of several keys that fit a token without a key id, any may have signed it. */
async function verifyWithAny(token: string, get: JWTVerifyGetKey, options: JWTVerifyOptions): Promise<JWTPayload> {
  try {
    return (await jwtVerify(token, get, options)).payload;
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
    for await (const key of error) {
      try {
        return (await jwtVerify(token, key, options)).payload;
      } catch (failure) {
        if (!(failure instanceof errors.JWSSignatureVerificationFailed)) throw failure;
      }
    }
    throw new errors.JWSSignatureVerificationFailed();
  }
}

/** `scope`, a text with spaces (RFC 8693, section 4.2), or a list `scopes`; what is not a scope here is passed over. */
function scopesOf(payload: JWTPayload): string[] {
  const claimed: unknown = payload["scope"] ?? payload["scopes"];
  const list: unknown[] = typeof claimed === "string" ? claimed.split(" ") : Array.isArray(claimed) ? claimed : [];
  return list.filter((scope): scope is string => typeof scope === "string" && isScope(scope));
}

/** Whether the keys are at fault, and not the token. */
function isKeysFault(error: unknown): boolean {
  if (!(error instanceof errors.JOSEError)) return true;
  return (
    error instanceof errors.JWKSTimeout ||
    error instanceof errors.JWKSInvalid ||
    // An answer that is not 200, or not JSON.
    error.code === "ERR_JOSE_GENERIC"
  );
}

/** A URL as the log may show it: its query and user may be credentials. */
function withoutSecrets(jwks: string): string {
  if (!isUrl(jwks)) return jwks;
  const { origin, pathname } = new URL(jwks);
  return `${origin}${pathname}`;
}
