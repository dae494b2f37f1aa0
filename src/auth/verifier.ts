import { createHash } from "node:crypto";
import { watch } from "node:fs";
import { dirname } from "node:path";
import { DomainError } from "../errors.ts";
import { createJwtVerifier } from "./jwt.ts";
import type { JwtVerifier } from "./jwt.ts";
import type { Principal } from "./principal.ts";
import { findToken, readTokens } from "./tokens.ts";
import type { TokenEntry } from "./tokens.ts";

export interface VerifierOptions {
  readonly tokensFile?: string | undefined;
  readonly jwks?: string | undefined;
  readonly jwtIssuer?: string | undefined;
  readonly jwtAudience?: string | undefined;
  /** A token with every scope, used when there is neither a tokens file nor a JWKS. */
  readonly sampleToken?: string | undefined;
  /** Called when changed files cannot be read; what was read before stays in force. */
  readonly onError: (error: unknown) => void;
  readonly now?: () => number;
}

/** Tells who a token stands for. */
export interface Verifier {
  /** Fails with "unauthenticated": "invalid token" or "token expired". */
  verify(token: string): Promise<Principal>;
  /** Reads the files again. Fails, and changes nothing, if they are wrong. */
  reload(): Promise<void>;
  close(): void;
}

interface Known {
  readonly tokens: readonly TokenEntry[];
  readonly jwt: JwtVerifier | undefined;
}

/** How long a changed file must rest before it is read, in milliseconds: editors write in several steps. */
const settleMs = 100;

/** Reads the tokens file and the keys. Fails with "config" if they are wrong. */
export async function createVerifier(options: VerifierOptions): Promise<Verifier> {
  const now = options.now ?? Date.now;
  let known = await read(options, now);
  const reload = async (): Promise<void> => {
    known = await read(options, now);
  };
  const files = [options.tokensFile, isFile(options.jwks) ? options.jwks : undefined];
  const stops = files
    .filter((file) => file !== undefined)
    .map((file) =>
      watchFile(file, () => {
        reload().catch(options.onError);
      }),
    );
  return {
    async verify(token) {
      const principal = findToken(known.tokens, token);
      if (principal !== undefined) {
        if (principal.expiresAtMs !== undefined && principal.expiresAtMs <= now()) {
          throw new DomainError({ kind: "unauthenticated", detail: "token expired" });
        }
        return principal;
      }
      if (known.jwt !== undefined && token.split(".").length === 3) return known.jwt(token);
      throw new DomainError({ kind: "unauthenticated", detail: "invalid token" });
    },
    reload,
    close() {
      for (const stop of stops) stop();
    },
  };
}

async function read(options: VerifierOptions, now: () => number): Promise<Known> {
  const { tokensFile, jwks, sampleToken } = options;
  if (tokensFile === undefined && jwks === undefined && sampleToken !== undefined) {
    const hash = createHash("sha256").update(sampleToken).digest();
    return { tokens: [{ hash, principal: { name: "sample", scopes: ["admin"] } }], jwt: undefined };
  }
  const jwt =
    jwks === undefined
      ? undefined
      : await createJwtVerifier({
          jwks,
          now,
          ...(options.jwtIssuer === undefined ? {} : { issuer: options.jwtIssuer }),
          ...(options.jwtAudience === undefined ? {} : { audience: options.jwtAudience }),
        });
  return { tokens: tokensFile === undefined ? [] : await readTokens(tokensFile), jwt };
}

function isFile(jwks: string | undefined): boolean {
  return jwks !== undefined && !/^https?:/.test(jwks);
}

/**
 * Calls `changed` once after each change. Watches the directory, because editors
 * and Kubernetes replace a file rather than write into it.
 */
function watchFile(path: string, changed: () => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  const watcher = watch(dirname(path), { persistent: false }, () => {
    clearTimeout(timer);
    timer = setTimeout(changed, settleMs).unref();
  });
  // Without a watch (an exhausted limit, a removed directory) SIGHUP still works.
  watcher.on("error", () => undefined);
  return () => {
    clearTimeout(timer);
    watcher.close();
  };
}
