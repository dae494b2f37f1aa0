import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join, sep } from "node:path";

const native = join(import.meta.dirname, "../native");

/** SHA-256 of what the HTTP/3 engine is built from: the build carries it, so that a test sees whether it is current. */
export function nativeSources(): string {
  const sources = readdirSync(join(native, "src"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".rs"))
    .map((name) => `src/${name.replaceAll(sep, "/")}`);
  const hash = createHash("sha256");
  for (const name of ["Cargo.toml", "Cargo.lock", "build.rs", ...sources.sort()]) {
    const text = readFileSync(join(native, name));
    // With its length, so that nothing can move from one file to the next.
    hash.update(`${name} ${text.byteLength}\n`).update(text);
  }
  return hash.digest("hex");
}
