import { createLocalJWKSet, createRemoteJWKSet, errors, jwtVerify } from "jose";
import type { JWTPayload, JWTVerifyGetKey, JSONWebKeySet } from "jose";
import { readFile } from "node:fs/promises";
import { DomainError } from "../errors.ts";
import type { Principal } from "./principal.ts";
import { isScope } from "./scopes.ts";

export interface JwtOptions {
  /** A file, or an http(s) URL. */
  readonly jwks: string;
  readonly issuer?: string;
  readonly audience?: string;
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

/** Verifies a JWT (RFC 7519): resolves to its principal, or fails with a DomainError. */
export type JwtVerifier = (token: string) => Promise<Principal>;

/** Reads the keys, from a file at once, from a URL when they are needed. Fails with "config". */
export async function createJwtVerifier(options: JwtOptions): Promise<JwtVerifier> {
  const keys = await readKeys(options.jwks);
  return async (token) => {
    let payload: JWTPayload;
    try {
      ({ payload } = await jwtVerify(token, keys, {
        algorithms,
        requiredClaims: ["exp", "sub"],
        currentDate: new Date(options.now()),
        ...(options.issuer === undefined ? {} : { issuer: options.issuer }),
        ...(options.audience === undefined ? {} : { audience: options.audience }),
      }));
    } catch (error) {
      throw toDomainError(error);
    }
    return {
      name: payload.sub ?? "",
      scopes: scopesOf(payload),
      expiresAtMs: (payload.exp ?? 0) * 1000,
    };
  };
}

async function readKeys(jwks: string): Promise<JWTVerifyGetKey> {
  if (/^https?:/.test(jwks)) return createRemoteJWKSet(new URL(jwks));
  try {
    return createLocalJWKSet(JSON.parse(await readFile(jwks, "utf8")) as JSONWebKeySet);
  } catch (cause) {
    const detail = `--jwks ${jwks} cannot be used: ${cause instanceof Error ? cause.message : String(cause)}; it must be a file or a URL with a JSON Web Key Set`;
    throw new DomainError({ kind: "config", detail }, { cause });
  }
}

/** `scope`, a text with spaces (RFC 8693, section 4.2), or a list `scopes`; what is not a scope here is passed over. */
function scopesOf(payload: JWTPayload): string[] {
  const claimed: unknown = payload["scope"] ?? payload["scopes"];
  const list: unknown[] = typeof claimed === "string" ? claimed.split(" ") : Array.isArray(claimed) ? claimed : [];
  return list.filter((scope): scope is string => typeof scope === "string" && isScope(scope));
}

function toDomainError(error: unknown): DomainError {
  if (error instanceof errors.JWTExpired) {
    return new DomainError({ kind: "unauthenticated", detail: "token expired" }, { cause: error });
  }
  if (
    error instanceof errors.JWKSTimeout ||
    !(error instanceof errors.JOSEError) ||
    error.code === "ERR_JOSE_GENERIC"
  ) {
    return new DomainError(
      { kind: "store-unavailable", detail: "the keys of --jwks cannot be read" },
      { cause: error },
    );
  }
  return new DomainError({ kind: "unauthenticated", detail: "invalid token" }, { cause: error });
}
