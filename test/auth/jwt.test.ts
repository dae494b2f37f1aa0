import fc from "fast-check";
import { SignJWT } from "jose";
import type { JWTPayload } from "jose";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { createJwtVerifier, isUrl } from "../../src/auth/jwt.ts";
import type { JwtOptions, JwtVerifier } from "../../src/auth/jwt.ts";
import { tempDir } from "../support/cli.ts";
import { createSigner, startJwksServer } from "../support/jwks.ts";
import type { Signer } from "../support/jwks.ts";

let signer: Signer;
let other: Signer;
beforeAll(async () => {
  [signer, other] = await Promise.all([createSigner("one"), createSigner("two")]);
});

const invalid = { problem: { kind: "unauthenticated", detail: "invalid token" } };
const expired = { problem: { kind: "unauthenticated", detail: "token expired" } };
const unavailable = { problem: { kind: "keys-unavailable" } };
const seconds = (fromNow: number): number => Math.floor(Date.now() / 1000) + fromNow;

function verifierOf(jwks: string, options: Partial<JwtOptions> = {}): Promise<JwtVerifier> {
  return createJwtVerifier({ jwks, now: Date.now, ...options });
}

async function fileOf(content: unknown): Promise<string> {
  const path = join(await tempDir(), "jwks.json");
  await writeFile(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

describe("a JWT", () => {
  async function verify(token: string, options: Partial<JwtOptions> = {}) {
    return (await verifierOf(await fileOf({ keys: [signer.jwk] }), options)).verify(token);
  }

  it("is its subject's, with its scopes and its end", async () => {
    const exp = seconds(60);
    const token = await signer.sign({ sub: "ada", scope: "greet data:read:logs/*", exp });
    expect(await verify(token)).toEqual({
      name: "ada",
      scopes: ["greet", "data:read:logs/*"],
      expiresAtMs: exp * 1000,
    });
  });

  it.each<[what: string, claims: Record<string, unknown>, scopes: string[]]>([
    ["a text", { scope: "greet admin" }, ["greet", "admin"]],
    ["several blanks", { scope: " greet  admin " }, ["greet", "admin"]],
    ["other systems' scopes", { scope: "openid greet profile data:read:" }, ["greet"]],
    ["an empty text", { scope: "" }, []],
    ["a list", { scope: undefined, scopes: ["greet", 7, null, "openid", "data:write:*"] }, ["greet", "data:write:*"]],
    ["nothing", { scope: undefined }, []],
    ["a number", { scope: 7 }, []],
    ["an object", { scope: { greet: true } }, []],
  ])("has scopes from %s", async (_, claims, scopes) => {
    expect((await verify(await signer.sign(claims))).scopes).toEqual(scopes);
  });

  it.each<[what: string, claims: Record<string, unknown>, options?: Partial<JwtOptions>]>([
    ["another issuer", { iss: "https://evil.example" }, { issuer: "https://issuer.example" }],
    ["no issuer", {}, { issuer: "https://issuer.example" }],
    ["another audience", { aud: ["b", "c"] }, { audience: "a" }],
    ["no audience", {}, { audience: "a" }],
    ["no subject", { sub: undefined }],
    ["an empty subject", { sub: "" }],
    ["a subject that is no text", { sub: 7 }],
    ["no expiry", { exp: undefined }],
    ["an expiry that is no number", { exp: "tomorrow" }],
    ["a beginning in the future", { nbf: seconds(60) }],
  ])("with %s is invalid", async (_, claims, options) => {
    await expect(verify(await signer.sign(claims), options)).rejects.toMatchObject(invalid);
  });

  it("may have the issuer and the audience that are asked for", async () => {
    const token = await signer.sign({ iss: "https://issuer.example", aud: ["b", "a"] });
    const options = { issuer: "https://issuer.example", audience: "a" };
    await expect(verify(token, options)).resolves.toMatchObject({ name: "ada" });
  });

  it("that has expired says so", async () => {
    await expect(verify(await signer.sign({ exp: seconds(-1) }))).rejects.toMatchObject(expired);
    const token = await signer.sign({ exp: seconds(60) });
    await expect(verify(token, { now: () => Date.now() + 120_000 })).rejects.toMatchObject(expired);
  });

  it("that has expired and is signed by somebody else says only that it is invalid", async () => {
    const token = await other.sign({ exp: seconds(-1) }, { kid: "one" });
    await expect(verify(token)).rejects.toMatchObject(invalid);
  });

  it("signed by an unknown key is invalid, also under the id of a known one", async () => {
    await expect(verify(await other.sign())).rejects.toMatchObject(invalid);
    await expect(verify(await other.sign({}, { kid: "one" }))).rejects.toMatchObject(invalid);
  });

  it("without a signature is invalid", async () => {
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const payload = encode({ sub: "ada", scope: "admin", exp: seconds(60) });
    await expect(verify(`${encode({ alg: "none" })}.${payload}.`)).rejects.toMatchObject(invalid);
    await expect(verify(`${encode({ alg: "none", kid: "one" })}.${payload}.AAAA`)).rejects.toMatchObject(invalid);
  });

  it("signed with the public key as a shared secret is invalid", async () => {
    const secret = new TextEncoder().encode(JSON.stringify(signer.jwk));
    const token = await new SignJWT({ sub: "ada", exp: seconds(60) })
      .setProtectedHeader({ alg: "HS256", kid: "one" })
      .sign(secret);
    await expect(verify(token)).rejects.toMatchObject(invalid);
  });

  it("with a changed byte is invalid", async () => {
    const [head = "", payload = "", signature = ""] = (await signer.sign()).split(".");
    const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as JWTPayload;
    const forged = Buffer.from(JSON.stringify({ ...claims, scope: "admin" })).toString("base64url");
    await expect(verify(`${head}.${forged}.${signature}`)).rejects.toMatchObject(invalid);
  });

  it("of garbage is invalid, and never the keys' fault", async () => {
    const jwt = await verifierOf(await fileOf({ keys: [signer.jwk] }));
    const header = fc.record(
      {
        alg: fc.constantFrom<unknown>("ES256", "RS256", "EdDSA", "none", "HS256", "ES384", "", 7, null, {}),
        kid: fc.constantFrom<unknown>("one", "", 7, null),
        crit: fc.constantFrom<unknown>(["b64"], [], "b64", null),
        b64: fc.boolean(),
        typ: fc.anything(),
      },
      { requiredKeys: [] },
    );
    const part = fc.oneof(
      header.map((value) => Buffer.from(JSON.stringify(value)).toString("base64url")),
      fc.json().map((text) => Buffer.from(text).toString("base64url")),
      fc.string(),
    );
    await fc.assert(
      fc.asyncProperty(fc.tuple(part, part, part), async (parts) => {
        await expect(jwt.verify(parts.join("."))).rejects.toMatchObject(invalid);
      }),
      { numRuns: 500 },
    );
  });

  it.each(
    [
      ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
      ["ES256", "ES384", "ES512", "EdDSA", "Ed25519"],
    ].flat(),
  )("may be signed with %s", async (alg) => {
    const one = await createSigner("k", alg);
    const jwt = await verifierOf(await fileOf({ keys: [one.jwk] }));
    await expect(jwt.verify(await one.sign())).resolves.toMatchObject({ name: "ada" });
  });

  it("signed with an algorithm that is not one of ours is invalid, also with a key of the set", async () => {
    const one = await createSigner("k", "ML-DSA-44");
    const jwt = await verifierOf(await fileOf({ keys: [one.jwk] }));
    await expect(jwt.verify(await one.sign())).rejects.toMatchObject(invalid);
  });

  it("without a key id may be signed by any of the keys", async () => {
    const jwt = await verifierOf(await fileOf({ keys: [other.jwk, signer.jwk] }));
    await expect(jwt.verify(await signer.sign({}, {}))).resolves.toMatchObject({ name: "ada" });
    await expect(jwt.verify(await other.sign({}, {}))).resolves.toMatchObject({ name: "ada" });
    await expect(jwt.verify(await signer.sign({ exp: seconds(-1) }, {}))).rejects.toMatchObject(expired);
    const stranger = await createSigner("three");
    await expect(jwt.verify(await stranger.sign({}, {}))).rejects.toMatchObject(invalid);
  });
});

describe("a JWKS file", () => {
  it("read again has the new keys only", async () => {
    const path = await fileOf({ keys: [signer.jwk] });
    const jwt = await verifierOf(path);
    await writeFile(path, JSON.stringify({ keys: [other.jwk] }));
    await expect(jwt.verify(await other.sign())).rejects.toMatchObject(invalid);
    await jwt.reload();
    await expect(jwt.verify(await other.sign())).resolves.toMatchObject({ name: "ada" });
    await expect(jwt.verify(await signer.sign())).rejects.toMatchObject(invalid);
  });

  it("that is wrong when it is read again leaves the old keys", async () => {
    const path = await fileOf({ keys: [signer.jwk] });
    const jwt = await verifierOf(path);
    await writeFile(path, "{");
    await expect(jwt.reload()).rejects.toMatchObject({ problem: { kind: "config" } });
    await expect(jwt.verify(await signer.sign())).resolves.toMatchObject({ name: "ada" });
  });

  it.each<[what: string, content: () => unknown, says: RegExp]>([
    [
      "no JSON",
      () => `{"keys": [{"d": s3cr3t}]}`,
      /jwks\.json cannot be used: it is not JSON; it must be a file or a URL/,
    ],
    ["no key set", () => ({ tokens: [] }), /it is no key set/],
    ["keys that are none", () => ({ keys: ["s3cr3t"] }), /it is no key set/],
    ["a private key", () => ({ keys: [{ ...signer.privateJwk, note: "s3cr3t" }] }), /only public keys belong there/],
    [
      "a private key behind a public one",
      () => ({ keys: [signer.jwk, { ...other.privateJwk, note: "s3cr3t" }] }),
      /only public keys belong there/,
    ],
    ["a shared key", () => ({ keys: [{ kty: "oct", k: "s3cr3t" }] }), /only public keys belong there/],
  ])("with %s in it is refused", async (_, content, says) => {
    const error = (await verifierOf(await fileOf(content())).catch((thrown: unknown) => thrown)) as Error;
    expect(error).toMatchObject({ problem: { kind: "config" } });
    expect(error.message).toMatch(says);
    expect(`${error.message} ${String(error.cause)}`).not.toContain("s3cr3t");
  });

  it("that is not there is refused", async () => {
    await expect(verifierOf(join(await tempDir(), "none.json"))).rejects.toThrow(/none\.json cannot be used: ENOENT/);
  });

  it("with a key that cannot be used makes tokens of it unavailable rather than invalid", async () => {
    const jwt = await verifierOf(await fileOf({ keys: [{ ...signer.jwk, x: "AAAA" }] }));
    await expect(jwt.verify(await signer.sign())).rejects.toMatchObject(unavailable);
  });
});

describe("a JWKS at a URL", () => {
  it("is asked for when it is needed, and once", async () => {
    const jwks = await startJwksServer(signer.jwk);
    const jwt = await verifierOf(jwks.url);
    expect(jwks.requests).toBe(0);
    const tokens = await Promise.all([signer.sign(), signer.sign({ sub: "bob" })]);
    const principals = await Promise.all(tokens.map((token) => jwt.verify(token)));
    expect(principals.map(({ name }) => name)).toEqual(["ada", "bob"]);
    expect(jwks.requests).toBe(1);
  });

  it("is asked again when a token names a key that it did not have, but not all the time", async () => {
    const jwks = await startJwksServer(signer.jwk);
    const jwt = await verifierOf(jwks.url);
    await jwt.verify(await signer.sign());
    jwks.publish(other.jwk);
    // Only the clock is made up; sockets and timers are real.
    vi.useFakeTimers({ toFake: ["Date"] });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const fromOther = await other.sign();
    for (let i = 0; i < 3; i++) await expect(jwt.verify(fromOther)).rejects.toMatchObject(invalid);
    expect(jwks.requests).toBe(1);
    vi.setSystemTime(Date.now() + 31_000);
    await expect(jwt.verify(fromOther)).resolves.toMatchObject({ name: "ada" });
    await expect(jwt.verify(await signer.sign())).rejects.toMatchObject(invalid);
    expect(jwks.requests).toBe(2);
  });

  it("is asked again at once by a reload", async () => {
    const jwks = await startJwksServer(signer.jwk);
    const jwt = await verifierOf(jwks.url);
    await jwt.verify(await signer.sign());
    jwks.publish(other.jwk);
    await jwt.reload();
    await expect(jwt.verify(await other.sign())).resolves.toMatchObject({ name: "ada" });
    await expect(jwt.verify(await signer.sign())).rejects.toMatchObject(invalid);
  });

  it("that is gone at a reload leaves the keys that it gave", async () => {
    const jwks = await startJwksServer(signer.jwk);
    const jwt = await verifierOf(jwks.url);
    await jwt.verify(await signer.sign());
    await jwks.stop();
    const error = (await jwt.reload().catch((thrown: unknown) => thrown)) as Error;
    expect(error).toMatchObject(unavailable);
    expect((error.cause as Error).message).toBe(`the keys of --jwks ${jwks.url} cannot be used`);
    expect((error.cause as Error).cause).toBeInstanceOf(Error);
    await expect(jwt.verify(await signer.sign())).resolves.toMatchObject({ name: "ada" });
  });

  it.each<[what: string, answer: Parameters<Awaited<ReturnType<typeof startJwksServer>>["answer"]>[0]]>([
    ["an error", (res) => res.writeHead(500).end("out of order")],
    ["a page", (res) => res.writeHead(200, { "content-type": "text/html" }).end("<html>")],
    ["JSON that is no key set", (res) => res.writeHead(200).end("[]")],
    ["a redirect", (res) => res.writeHead(302, { location: "http://127.0.0.1:1/" }).end()],
    ["nothing", (res) => res.destroy()],
  ])("that answers with %s makes tokens unavailable rather than invalid, until it is well", async (_, answer) => {
    const jwks = await startJwksServer(signer.jwk);
    jwks.answer(answer);
    const jwt = await verifierOf(jwks.url);
    const token = await signer.sign();
    await expect(jwt.verify(token)).rejects.toMatchObject(unavailable);
    jwks.publish(signer.jwk);
    await expect(jwt.verify(token)).resolves.toMatchObject({ name: "ada" });
  });

  it("where nobody listens says so in the cause, without what may be a password in the URL", async () => {
    const jwks = await startJwksServer();
    await jwks.stop();
    const jwt = await verifierOf(`${jwks.url}?key=s3cr3t`);
    const error = (await jwt.verify(await signer.sign()).catch((thrown: unknown) => thrown)) as Error;
    expect(error).toMatchObject(unavailable);
    expect(error.message).toBe("the keys to check tokens with cannot be read now: try again later");
    const cause = error.cause as Error;
    expect(cause.message).toBe(`the keys of --jwks ${jwks.url} cannot be used`);
    expect((cause.cause as Error).cause).toMatchObject({ code: "ECONNREFUSED" });
    expect(error.message + cause.message).not.toContain("s3cr3t");
  });

  it("is told from a file by how it begins", () => {
    expect(["https://a/b", "HTTP://a/b", "https://"].map(isUrl)).toEqual([true, true, true]);
    expect(["jwks.json", "/etc/https:/jwks.json", "httpskeys"].map(isUrl)).toEqual([false, false, false]);
  });

  it("that is no URL is refused", async () => {
    await expect(verifierOf("https://")).rejects.toThrow(/--jwks is not a URL/);
  });
});
