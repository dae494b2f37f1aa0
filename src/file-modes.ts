import { statSync } from "node:fs";

/** Permissions for this user alone. */
export const privateModes = { directory: 0o700, file: 0o600 } as const;

/**
 * Says that others on this machine may do more with the file than `allowed`, and what to do about it. Undefined if they
 * may not, if there is no such file, and on Windows, where a mode says nothing.
 */
export function describeOpenMode(path: string, allowed: number, platform = process.platform): string | undefined {
  if (platform === "win32") return undefined;
  const mode = statSync(path, { throwIfNoEntry: false })?.mode;
  if (mode === undefined) return undefined;
  const found = mode & 0o777;
  if ((found & ~allowed & 0o077) === 0) return undefined;
  const others = (found & ~allowed & 0o022) === 0 ? "read" : "change";
  const octal = (bits: number): string => bits.toString(8).padStart(4, "0");
  return `other users of this machine can ${others} ${path} (mode ${octal(found)}): chmod ${octal(found & allowed)} it`;
}
