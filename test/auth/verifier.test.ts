import { createHash } from "node:crypto";
import { mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { createVerifier } from "../../src/auth/verifier.ts";
import type { Verifier, VerifierOptions } from "../../src/auth/verifier.ts";
import { fileState, watchFile } from "../../src/auth/watch-file.ts";
import { tempDir } from "../support/cli.ts";
import { until, within } from "../support/deadline.ts";
import { createSigner, startJwksServer } from "../support/jwks.ts";

const tokensOf = (...tokens: string[]): string =>
  JSON.stringify({
    tokens: tokens.map((name) => ({
      name,
      sha256: createHash("sha256").update(name).digest("hex"),
      scopes: ["greet"],
    })),
  });
const invalid = { problem: { kind: "unauthenticated", detail: "invalid token" } };

interface Watched extends Verifier {
  /** What was told of wrong files. */
  readonly errors: unknown[];
  /** How often something was read again. */
  readonly reloads: number;
}

async function useVerifier(options: Partial<VerifierOptions>): Promise<Watched> {
  const errors: unknown[] = [];
  let reloads = 0;
  const verifier = await createVerifier({
    onError: (error) => errors.push(error),
    onReload: () => {
      reloads++;
    },
    ...options,
  });
  onTestFinished(() => {
    verifier.close();
  });
  return {
    ...verifier,
    errors,
    get reloads() {
      return reloads;
    },
  };
}

const admits = (verifier: Verifier, token: string): Promise<boolean> =>
  verifier.verify(token).then(
    () => true,
    () => false,
  );

describe("a verifier", () => {
  it("knows the sample only when it has nothing else", async () => {
    const file = join(await tempDir(), "tokens.json");
    await writeFile(file, tokensOf("a"));
    const alone = await useVerifier({ sampleToken: "sample" });
    expect(await alone.verify("sample")).toEqual({ name: "sample", scopes: ["admin"] });
    await expect(alone.verify("other")).rejects.toMatchObject(invalid);
    await expect(alone.reload()).resolves.toBeUndefined();
    expect(await admits(await useVerifier({ sampleToken: "sample", tokensFile: file }), "sample")).toBe(false);
  });

  it("knows nobody when it has nothing", async () => {
    await expect((await useVerifier({})).verify("sample")).rejects.toMatchObject(invalid);
  });

  it("takes tokens of the file and JWTs side by side, also a token of the file that looks like a JWT", async () => {
    const signer = await createSigner("one");
    const jwks = await startJwksServer(signer.jwk);
    const file = join(await tempDir(), "tokens.json");
    await writeFile(file, tokensOf("plain", "looks.like.jwt"));
    const verifier = await useVerifier({ tokensFile: file, jwks: jwks.url });
    expect((await verifier.verify("plain")).name).toBe("plain");
    expect((await verifier.verify("looks.like.jwt")).name).toBe("looks.like.jwt");
    await expect(verifier.verify("unknown")).rejects.toMatchObject(invalid);
    expect(jwks.requests).toBe(0);
    expect((await verifier.verify(await signer.sign())).name).toBe("ada");
  });

  it("refuses a token from the moment on when it expires", async () => {
    const file = join(await tempDir(), "tokens.json");
    const expires = "2030-01-01T00:00:00Z";
    const sha256 = createHash("sha256").update("a").digest("hex");
    await writeFile(file, JSON.stringify({ tokens: [{ name: "a", sha256, scopes: ["greet"], expires }] }));
    let now = Date.parse(expires) - 1;
    const verifier = await useVerifier({ tokensFile: file, now: () => now });
    expect((await verifier.verify("a")).expiresAtMs).toBe(Date.parse(expires));
    now++;
    await expect(verifier.verify("a")).rejects.toMatchObject({
      problem: { kind: "unauthenticated", detail: "token expired" },
    });
  });

  it("fails to start when one of its files is wrong", async () => {
    const dir = await tempDir();
    const file = join(dir, "tokens.json");
    await writeFile(file, tokensOf("a"));
    await expect(useVerifier({ tokensFile: join(dir, "none") })).rejects.toThrow(/ENOENT/);
    await expect(useVerifier({ tokensFile: file, jwks: join(dir, "none") })).rejects.toThrow(/--jwks/);
  });

  it("reads what is right when something else is wrong, and tells of everything wrong", async () => {
    const signer = await createSigner("one");
    const dir = await tempDir();
    const [tokensFile, jwks] = [join(dir, "tokens.json"), join(dir, "jwks.json")];
    await writeFile(tokensFile, tokensOf("old"));
    await writeFile(jwks, JSON.stringify({ keys: [signer.jwk] }));
    const verifier = await useVerifier({ tokensFile, jwks });
    await writeFile(jwks, "{");
    await writeFile(tokensFile, tokensOf("new"));
    await expect(verifier.reload()).rejects.toThrow(/--jwks .* not JSON/);
    expect(await admits(verifier, "new")).toBe(true);
    expect(await admits(verifier, await signer.sign())).toBe(true);
    await writeFile(tokensFile, "{");
    await expect(verifier.reload()).rejects.toThrow(/tokens file .* not JSON.*; --jwks .* not JSON/);
    expect(await admits(verifier, "new")).toBe(true);
  });

  it("checks again when something was read again while it checked", async () => {
    const signer = await createSigner("one");
    const jwks = await startJwksServer(signer.jwk);
    const asked = Promise.withResolvers<ServerResponse>();
    jwks.answer(asked.resolve);
    const file = join(await tempDir(), "tokens.json");
    await writeFile(file, tokensOf("a"));
    let checks = 0;
    const verifier = await useVerifier({ tokensFile: file, jwks: jwks.url, now: () => (checks++, Date.now()) });
    const admitted = verifier.verify(await signer.sign());
    const response = await within(10_000, "the question for keys", asked.promise);
    expect(checks).toBe(1);
    // Also asks for the keys, and so ends only with the answer; by then the file has been read.
    const reloaded = verifier.reload();
    await until(10_000, "the reading of the file", () => verifier.reloads === 1);
    response.end(JSON.stringify({ keys: [signer.jwk] }));
    await within(10_000, "the admission", admitted);
    expect(checks).toBe(2);
    await reloaded;
  });
});

describe("a tokens file that changes", () => {
  async function useFile(): Promise<{ dir: string; file: string }> {
    const dir = await tempDir();
    const file = join(dir, "tokens.json");
    await writeFile(file, tokensOf("old"));
    return { dir, file };
  }

  async function expectReplaced(verifier: Verifier): Promise<void> {
    await until(10_000, "the new token's admission", () => admits(verifier, "new"));
    expect(await admits(verifier, "old")).toBe(false);
  }

  it("is read again when it is written", async () => {
    const { file } = await useFile();
    const verifier = await useVerifier({ tokensFile: file });
    await writeFile(file, tokensOf("new"));
    await expectReplaced(verifier);
    expect(verifier.reloads).toBe(1);
  });

  it("is read again when another takes its name, as editors do it", async () => {
    const { dir, file } = await useFile();
    const verifier = await useVerifier({ tokensFile: file });
    await writeFile(join(dir, "draft"), tokensOf("new"));
    await rename(join(dir, "draft"), file);
    await expectReplaced(verifier);
  });

  it("is read again when a link on its way is swapped, as Kubernetes does it", async () => {
    const dir = await tempDir();
    for (const version of ["old", "new"]) {
      await mkdir(join(dir, `..${version}`));
      await writeFile(join(dir, `..${version}`, "tokens.json"), tokensOf(version));
    }
    await symlink("..old", join(dir, "..data"));
    await symlink(join("..data", "tokens.json"), join(dir, "tokens.json"));
    const verifier = await useVerifier({ tokensFile: join(dir, "tokens.json") });
    expect(await admits(verifier, "old")).toBe(true);
    await symlink("..new", join(dir, "..data_tmp"));
    await rename(join(dir, "..data_tmp"), join(dir, "..data"));
    await rm(join(dir, "..old"), { recursive: true });
    await expectReplaced(verifier);
  });

  it("is read again when it is a link to a file elsewhere that changes", async () => {
    const { file } = await useFile();
    const link = join(await tempDir(), "tokens.json");
    await symlink(file, link);
    const verifier = await useVerifier({ tokensFile: link });
    await writeFile(file, tokensOf("new"));
    await expectReplaced(verifier);
  });

  it("keeps its tokens while it is gone or wrong, tells of it once, and is read again when it is back", async () => {
    const { file } = await useFile();
    const verifier = await useVerifier({ tokensFile: file });
    await rm(file);
    await until(10_000, "the complaint", () => verifier.errors.length === 1);
    expect(await admits(verifier, "old")).toBe(true);
    await writeFile(file, "{");
    await until(10_000, "the next complaint", () => verifier.errors.length === 2);
    expect(verifier.errors.map(String)).toEqual([
      expect.stringContaining("ENOENT"),
      expect.stringContaining("not JSON"),
    ]);
    expect(await admits(verifier, "old")).toBe(true);
    expect(verifier.reloads).toBe(0);
    await writeFile(file, tokensOf("new"));
    await expectReplaced(verifier);
    expect(verifier.errors).toHaveLength(2);
  });

  it("is not looked at any more after the close", async () => {
    const { file } = await useFile();
    const closed = await useVerifier({ tokensFile: file });
    closed.close();
    const open = await useVerifier({ tokensFile: file });
    await writeFile(file, tokensOf("new"));
    // The other one, begun later, shows that time enough has passed.
    await expectReplaced(open);
    expect(closed.reloads).toBe(0);
    expect(await admits(closed, "old")).toBe(true);
  });

  it("is not looked at by a verifier that failed to start", async () => {
    const { dir, file } = await useFile();
    let reloads = 0;
    const onReload = () => reloads++;
    await expect(useVerifier({ tokensFile: file, jwks: join(dir, "none"), onReload })).rejects.toThrow(/--jwks/);
    const open = await useVerifier({ tokensFile: file });
    await writeFile(file, tokensOf("new"));
    // The other one, begun later, shows that time enough has passed.
    await expectReplaced(open);
    expect(reloads).toBe(0);
  });
});

it("a file is not read again while it stays as it was", async () => {
  const file = join(await tempDir(), "tokens.json");
  await writeFile(file, tokensOf("a"));
  let reads = 0;
  const cleanups = [
    watchFile(file, await fileState(file), async () => {
      reads++;
    }),
    // Begun later, and told that the file has changed: shows that time enough has passed for the first one.
    await new Promise<() => void>((resolve) => {
      const stop = watchFile(file, "another state", () => {
        resolve(stop);
        return Promise.resolve();
      });
    }),
  ];
  for (const cleanup of cleanups) cleanup();
  expect(reads).toBe(0);
});

it("a JWKS file is read again when it changes", async () => {
  const [old, fresh] = await Promise.all([createSigner("one"), createSigner("one")]);
  const jwks = join(await tempDir(), "jwks.json");
  await writeFile(jwks, JSON.stringify({ keys: [old.jwk] }));
  const verifier = await useVerifier({ jwks });
  await writeFile(jwks, JSON.stringify({ keys: [fresh.jwk] }));
  const token = await fresh.sign();
  await until(10_000, "the new key's use", () => admits(verifier, token));
  expect(await admits(verifier, await old.sign())).toBe(false);
});
