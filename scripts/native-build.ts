/**
 * Builds the HTTP/3 engine of native/ for this machine and puts it where
 * src/http3/engine.ts looks: `npm run native:build`. What is kept in the
 * repository is built for older systems too, with cargo-zigbuild and Zig on the
 * PATH: `npm run native:build -- --glibc 2.28`.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, renameSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { prebuildPath } from "../src/http3/prebuild.ts";
import { nativeSources } from "./native-sources.ts";

const root = join(import.meta.dirname, "..");
const targetDir = process.env["CARGO_TARGET_DIR"] ?? join(root, "native/target");
const maxBytes = 6 * 1024 * 1024;

/** Where cargo keeps the sources of others. */
const cargoHome = process.env["CARGO_HOME"] ?? join(homedir(), ".cargo");

/** Paths of the machine that builds are in the messages of panics otherwise. */
const rustFlags = [process.env["RUSTFLAGS"] ?? "", remap(root, "sluice"), remap(cargoHome, "cargo")].join(" ").trim();

function remap(from: string, to: string): string {
  return `--remap-path-prefix=${from}=${to}`;
}

/** What cargo calls a library that is loaded at run time. */
const libraries: Partial<Record<NodeJS.Platform, string>> = {
  darwin: "libsluice_native.dylib",
  win32: "sluice_native.dll",
};

/** Node's names of processors, in Rust's words. */
const processors: Partial<Record<NodeJS.Architecture, string>> = { x64: "x86_64", arm64: "aarch64" };

function build(glibc: string | undefined): string | undefined {
  const target = `${processors[process.arch] ?? process.arch}-unknown-linux-gnu`;
  const args = glibc === undefined ? ["build"] : ["zigbuild", "--target", `${target}.${glibc}`];
  const { error, status } = spawnSync("cargo", [...args, "--release", "--locked"], {
    cwd: join(root, "native"),
    env: { ...process.env, CARGO_TARGET_DIR: targetDir, RUSTFLAGS: rustFlags, SLUICE_NATIVE_SOURCES: nativeSources() },
    stdio: "inherit",
  });
  if (error !== undefined) {
    return "npm run native:build needs Rust 1.88 or newer, with `cargo` on the PATH: install it (https://rustup.rs)";
  }
  if (status !== 0) return "the HTTP/3 engine could not be built: cargo failed, see above";
  const built = join(
    targetDir,
    glibc === undefined ? "" : target,
    "release",
    libraries[process.platform] ?? "libsluice_native.so",
  );
  const { size } = statSync(built);
  if (size > maxBytes) return `${built} has ${size} bytes: more than the ${maxBytes} that are allowed`;
  const kept = prebuildPath(root);
  mkdirSync(dirname(kept), { recursive: true });
  // A process that has loaded the one before keeps it.
  copyFileSync(built, `${kept}.new`);
  renameSync(`${kept}.new`, kept);
  console.log(`${kept}: ${size} bytes`);
  return undefined;
}

const { values } = parseArgs({ options: { glibc: { type: "string" } } });
const problem = build(values.glibc);
if (problem !== undefined) {
  console.error(problem);
  process.exitCode = 1;
}
