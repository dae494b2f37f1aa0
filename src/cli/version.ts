import { createRequire } from "node:module";

/** Of this package. */
export function packageVersion(): string {
  // Works from the sources and from dist/src/cli alike.
  const { version } = createRequire(import.meta.url)("sluice/package.json") as { version: string };
  return version;
}
