import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** A tokens file of these tokens with their scopes, each under its own name. Default: "sample", which may do everything. */
export function tokensFileOf(tokens: Readonly<Record<string, readonly string[]>>): string {
  const entries = Object.entries(tokens).map(([token, scopes]) => ({
    name: token,
    sha256: createHash("sha256").update(token).digest("hex"),
    scopes,
  }));
  return JSON.stringify({ tokens: entries });
}

/** The path of one, until the end of the test. */
export async function useTokensFile(
  tokens: Readonly<Record<string, readonly string[]>> = { sample: ["admin"] },
): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-tokens-"));
  onTestFinished(() => rm(dir, { recursive: true }));
  const path = join(dir, "tokens.json");
  await writeFile(path, tokensFileOf(tokens));
  return path;
}
