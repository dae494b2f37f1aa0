import { statSync } from "node:fs";

/** Permissions for this user alone. */
export const privateModes = { directory: 0o700, file: 0o600 } as const;

/**
 * Says that others on this machine may do more with the file than `allowed`, and what to do about it. Undefined if they
 * may not, if there is no such file, and on Windows, where a mode says nothing.
 */
export function describeOpenMode(path: string, allowed: number, platform = process.platform): string | undefined {
  if (platform === "win32") return undefined;
  let found: number;
  try {
    found = statSync(path).mode & 0o777;
  } catch {
    // Who opens it says what is wrong with it.
    return undefined;
  }
  if ((found & ~allowed & 0o077) === 0) return undefined;
  const others = (found & ~allowed & 0o022) === 0 ? "read" : "change";
  const octal = (bits: number): string => bits.toString(8).padStart(4, "0");
  return `other users of this machine can ${others} ${path} (mode ${octal(found)}): chmod ${octal(found & allowed)} it`;
}

/** The same of files beside the data: a key that others can read, and what decides on rights that others can change. */
export function describeOpenFiles(paths: {
  readonly tlsKey: string | undefined;
  readonly tokensFile: string | undefined;
  readonly jwks: string | undefined;
}): string[] {
  const found = [
    paths.tlsKey === undefined ? undefined : describeOpenMode(paths.tlsKey, 0o600),
    // Hashes and public keys may be read.
    ...[paths.tokensFile, paths.jwks].map((path) => (path === undefined ? undefined : describeOpenMode(path, 0o644))),
  ];
  return found.filter((message) => message !== undefined);
}
