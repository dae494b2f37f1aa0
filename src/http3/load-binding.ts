import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { DomainError } from "../errors.ts";
import type { NativeBinding } from "./native.ts";
import { prebuildPath } from "./prebuild.ts";

/** Fails with "config" if there is no engine for this machine. */
export function loadBinding(): NativeBinding {
  // From the sources, or from dist/.
  const roots = [join(import.meta.dirname, "../.."), join(import.meta.dirname, "../../..")];
  const path = roots.map(prebuildPath).find((candidate) => existsSync(candidate));
  if (path === undefined) {
    throw new DomainError({
      kind: "config",
      detail:
        "HTTP/3 has no engine for this machine yet: run `npm run native:build` in Sluice's directory (it needs Rust)",
    });
  }
  return createRequire(import.meta.url)(path) as NativeBinding;
}
