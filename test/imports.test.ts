import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";

const root = resolve(import.meta.dirname, "..");

/** What each part of src/ may import of ours, besides itself. The same rules stand in docs/architecture.md. */
const allowed: Record<string, readonly string[]> = {
  "clip.ts": [],
  "own-property.ts": [],
  "errors.ts": ["clip.ts"],
  async: [],
  "hosts.ts": [],
  "file-modes.ts": [],
  "process-sockets.ts": ["file-modes.ts"],
  "config.ts": ["errors.ts", "hosts.ts"],
  store: ["errors.ts", "async", "file-modes.ts", "own-property.ts", "process-sockets.ts"],
  auth: ["errors.ts", "async", "config.ts"],
  services: [
    "errors.ts",
    "async",
    "clip.ts",
    "config.ts",
    "store/store.ts",
    "auth/principal.ts",
    "auth/scopes.ts",
    "runtime/call.ts",
  ],
  wire: ["own-property.ts"],
  runtime: ["async", "clip.ts", "wire"],
  listen: ["errors.ts", "async", "wire/node-http2-open.ts", "wire/node-http2-hold.ts"],
  http3: [
    "errors.ts",
    "async",
    "wire",
    "runtime/exchange.ts",
    "listen/connection-age.ts",
    "listen/admission.ts",
    "listen/address-group.ts",
    "listen/places.ts",
  ],
  observe: ["clip.ts", "config.ts", "own-property.ts", "runtime"],
  client: ["async", "wire", "http3"],
  cli: [
    "client",
    "async",
    "config.ts",
    "errors.ts",
    "file-modes.ts",
    "process-sockets.ts",
    "compose.ts",
    "observe",
    "listen/dev-certificate.ts",
    "store/archive.ts",
    "store/backup.ts",
    "store/check-store.ts",
    "store/lmdb-check.ts",
  ],
  "compose.ts": [
    "clip.ts",
    "errors.ts",
    "config.ts",
    "hosts.ts",
    "file-modes.ts",
    "async",
    "store",
    "auth",
    "services",
    "runtime",
    "listen",
    "http3",
    "observe",
  ],
  "index.ts": [
    "errors.ts",
    "config.ts",
    "compose.ts",
    "observe",
    "runtime/call.ts",
    "runtime/stream-routes.ts",
    "wire/duplex-stream.ts",
    "auth/call-scopes.ts",
    "auth/principal.ts",
    "http3/webtransport-session.ts",
  ],
};

/** Parts that may import generated code. */
const generated = ["services", "client", "cli", "compose.ts"];

interface Import {
  readonly from: string;
  readonly to: string;
}

function sources(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(dir, name));
}

function importsOf(file: string): string[] {
  const text = readFileSync(file, "utf8");
  return [
    ...text.matchAll(/^(?:import|export)\b[^;]*?from\s*"([^"]+)"|^import\s*"([^"]+)"|\bimport\("([^"]+)"\)/gm),
  ].map((match) => match[1] ?? match[2] ?? match[3] ?? "");
}

const imports: Import[] = sources(join(root, "src")).flatMap((file) =>
  importsOf(file)
    .filter((to) => to.startsWith("."))
    .map((to) => ({
      from: relative(join(root, "src"), file),
      to: relative(join(root, "src"), resolve(dirname(file), to)),
    })),
);

function partOf(path: string): string {
  return path.split("/")[0] ?? path;
}

describe("imports", () => {
  it("are read at all", () => {
    expect(imports.length).toBeGreaterThan(100);
  });

  for (const [part, others] of Object.entries(allowed)) {
    it(`of ${part} keep to the rules`, () => {
      const broken = imports.filter(({ from, to }) => {
        if (partOf(from) !== part || partOf(to) === part) return false;
        if (to.startsWith("../gen/")) return !generated.includes(part);
        return !others.some((other) => to === other || to.startsWith(`${other}/`));
      });
      expect(broken).toEqual([]);
    });
  }

  it("have a rule for every part", () => {
    expect(Object.keys(allowed).sort()).toEqual(
      [
        ...new Set(
          imports
            .flatMap(({ from, to }) => [from, to])
            .filter((file) => !file.startsWith(".."))
            .map(partOf),
        ),
      ].sort(),
    );
  });

  it("of what a browser uses lead to nothing of Node's", () => {
    const seen = new Set<string>();
    const visit = (file: string): void => {
      if (seen.has(file)) return;
      seen.add(file);
      for (const to of importsOf(file)) {
        expect(to, relative(root, file)).not.toMatch(/^node:|^@connectrpc\/connect-node$/);
        if (to.startsWith(".")) visit(resolve(dirname(file), to));
      }
      // Generated code has nothing of Node's; its comments may name a process.
      if (file.startsWith(join(root, "gen"))) return;
      expect(readFileSync(file, "utf8"), relative(root, file)).not.toMatch(/\b(Buffer|process)\./);
    };
    visit(join(root, "src/client/web.ts"));
    expect(seen.size).toBeGreaterThan(10);
  });

  it("of Node's modules stand, in the client, only in files that say so", () => {
    for (const file of sources(join(root, "src/client"))) {
      if (importsOf(file).some((to) => to.startsWith("node:"))) expect(relative(root, file)).toMatch(/\/node-/);
    }
  });
});
