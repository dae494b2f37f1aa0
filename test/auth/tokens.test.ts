import { createHash } from "node:crypto";
import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { findToken, readTokens } from "../../src/auth/tokens.ts";
import type { TokenEntry } from "../../src/auth/tokens.ts";
import { tempDir } from "../support/cli.ts";

const hash = (token: string): string => createHash("sha256").update(token).digest("hex");
/** A token that somebody has put into the file by mistake. */
const secret = "s3cr3t-t0ken";
const good = { name: "a", sha256: hash("a"), scopes: ["greet"] };

async function read(text: string): Promise<TokenEntry[]> {
  const path = join(await tempDir(), "tokens.json");
  await writeFile(path, text);
  return readTokens(path);
}

const readList = (...tokens: unknown[]): Promise<TokenEntry[]> => read(JSON.stringify({ tokens }));

/** Everything that a log could show of an error. */
function shown(error: unknown): string {
  const texts: string[] = [];
  for (let at = error; at instanceof Error; at = at.cause) texts.push(at.message, at.stack ?? "", JSON.stringify(at));
  return texts.join("\n");
}

describe("a tokens file", () => {
  it("gives each token its principal", async () => {
    const entries = await readList(
      { ...good, scopes: ["greet", "admin", "data:read:logs/*", "data:write:logs/a", "rpc:tally.v1.*", "rpc:/tunnel"] },
      { name: "b", sha256: hash("b").toUpperCase(), scopes: ["data:read:*"], expires: "2030-01-31T01:00:00.125+01:00" },
    );
    expect(findToken(entries, "a")).toEqual({
      name: "a",
      scopes: ["greet", "admin", "data:read:logs/*", "data:write:logs/a", "rpc:tally.v1.*", "rpc:/tunnel"],
    });
    expect(findToken(entries, "b")).toEqual({
      name: "b",
      scopes: ["data:read:*"],
      expiresAtMs: Date.UTC(2030, 0, 31, 0, 0, 0, 125),
    });
  });

  it("may be empty of tokens: then nobody gets in", async () => {
    expect(await readList()).toEqual([]);
  });

  it("may begin with a byte order mark", async () => {
    expect(await read(`\uFEFF${JSON.stringify({ tokens: [good] })}`)).toHaveLength(1);
    const [entry] = await readList({ ...good, name: "a\uFEFFb" });
    expect(entry?.principal.name).toBe("a\uFEFFb");
  });

  it.each([
    ["nothing", "", "it is empty"],
    ["no JSON", `{"tokens": [{"name": "a", "sha256": ${secret}}]}`, "it is not JSON; it must be"],
    ["JSON that ends early", `{"tokens": [{"sha256": "${secret}"`, "it is not JSON; it must be"],
    ["a list", `["${secret}"]`, 'an object with a list "tokens"'],
    ["null", "null", 'an object with a list "tokens"'],
    ["an object without tokens", `{"${secret}": []}`, 'an object with a list "tokens"'],
    ["an object of tokens", `{"tokens": {"${secret}": 1}}`, 'an object with a list "tokens"'],
  ])("that has %s in it is refused", async (_, text, says) => {
    const error = await read(text).catch((thrown: unknown) => thrown);
    expect(shown(error)).toMatch(/the tokens file \S+tokens\.json cannot be used: /);
    expect(shown(error)).toContain(says);
    expect(shown(error)).not.toContain(secret);
  });

  it.each([
    ["a token that is no object", [good, secret], "tokens[1] must be an object with name, sha256"],
    ["an unknown key", [{ ...good, [secret]: 1 }], "tokens[0]: key number 4 is unknown; the keys are name, sha256"],
    ["no name", [{ ...good, name: undefined }], "tokens[0].name must be a text that is not empty"],
    ["an empty name", [{ ...good, name: "" }], "tokens[0].name must be a text"],
    ["a name twice", [good, { ...good, sha256: hash("b") }], "tokens[1].name is that of tokens[0] too"],
    ["a token twice", [good, { ...good, name: "b" }], "tokens[1].sha256 is that of tokens[0] too"],
    ["no hash", [{ ...good, sha256: undefined }], "tokens[0].sha256 must be the token's SHA-256 in 64 hex digits"],
    ["the token itself", [{ ...good, sha256: secret }], "(printf %s TOKEN | sha256sum)"],
    ["a short hash", [{ ...good, sha256: hash("a").slice(1) }], "64 hex digits"],
    ["a digit before the hash", [{ ...good, sha256: `0${hash("a")}` }], "64 hex digits"],
    ["a digit behind the hash", [{ ...good, sha256: `${hash("a")}0` }], "64 hex digits"],
    ["a list of hashes", [{ ...good, sha256: [hash("a")] }], "64 hex digits"],
    ["a hash in base64", [{ ...good, sha256: createHash("sha256").digest("base64") }], "64 hex digits"],
    ["the hash of nothing", [{ ...good, sha256: hash("") }], "tokens[0].sha256 is that of an empty text"],
    ["no scopes", [{ ...good, scopes: undefined }], "tokens[0].scopes must be a list of scopes"],
    ["an empty list of scopes", [{ ...good, scopes: [] }], "tokens[0].scopes must be a list of scopes"],
    ["scopes as a text", [{ ...good, scopes: "greet admin" }], "tokens[0].scopes must be a list of scopes"],
    [
      "an unknown scope",
      [{ ...good, scopes: ["greet", secret] }],
      "tokens[0].scopes[1] is not a scope; a scope is greet",
    ],
    ["a scope without a name", [{ ...good, scopes: ["data:read:"] }], "tokens[0].scopes[0] is not a scope"],
    ["a scope that is a list", [{ ...good, scopes: [["greet"]] }], "tokens[0].scopes[0] is not a scope"],
    ["a scope that is a number", [{ ...good, scopes: [1] }], "tokens[0].scopes[0] is not a scope"],
    [
      "an expiry without a time",
      [{ ...good, expires: "2030-01-31" }],
      "tokens[0].expires must be a time with its zone",
    ],
    ["text before the expiry", [{ ...good, expires: "on 2030-01-31T00:00:00Z" }], "tokens[0].expires"],
    ["text behind the expiry", [{ ...good, expires: "2030-01-31T00:00:00Z+" }], "tokens[0].expires"],
    ["a list of expiries", [{ ...good, expires: ["2030-01-31T00:00:00Z"] }], "tokens[0].expires"],
    ["an expiry without a zone", [{ ...good, expires: "2030-01-31T00:00:00" }], "such as 2030-01-31T00:00:00Z"],
    ["an expiry on a day that is none", [{ ...good, expires: "2030-02-30T00:00:00Z" }], "tokens[0].expires"],
    ["an expiry at a time that is none", [{ ...good, expires: "2030-01-31T25:00:00Z" }], "tokens[0].expires"],
    ["an expiry that is a number", [{ ...good, expires: 1900000000 }], "tokens[0].expires"],
    ["an expiry that is null", [{ ...good, expires: null }], "tokens[0].expires"],
  ])("with %s is refused", async (_, tokens, says) => {
    const error = await readList(...tokens).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ problem: { kind: "config" } });
    expect(shown(error)).toContain(says);
    expect(shown(error)).not.toContain(secret);
  });

  it("that is not there, or is a directory, is named with the reason", async () => {
    const dir = await tempDir();
    await expect(readTokens(join(dir, "none.json"))).rejects.toThrow(/none\.json cannot be used: ENOENT/);
    await expect(readTokens(dir)).rejects.toThrow(/cannot be used: EISDIR/);
  });

  it.skipIf(process.getuid?.() === 0)("that may not be read is named with the reason", async () => {
    const path = join(await tempDir(), "tokens.json");
    await writeFile(path, "{}");
    await chmod(path, 0);
    await expect(readTokens(path)).rejects.toThrow(/cannot be used: EACCES/);
    await expect(readTokens(path)).rejects.toMatchObject({ problem: { kind: "config" } });
  });
});

describe("finding a token", () => {
  it("compares with every entry, whichever is the one", () => {
    const looked: string[] = [];
    const entries = ["first", "middle", "last"].map((name): TokenEntry => ({
      get hash() {
        looked.push(name);
        return createHash("sha256").update(name).digest();
      },
      principal: { name, scopes: [] },
    }));
    for (const token of ["first", "middle", "last", "none", ""]) {
      looked.length = 0;
      expect(findToken(entries, token)?.name).toBe(["none", ""].includes(token) ? undefined : token);
      expect(looked).toEqual(["first", "middle", "last"]);
    }
  });

  it("finds nothing among nothing", () => {
    expect(findToken([], "a")).toBeUndefined();
  });

  it("does not take the hash for the token", () => {
    const entries = [{ hash: Buffer.from(hash("a"), "hex"), principal: { name: "a", scopes: [] } }];
    expect(findToken(entries, hash("a"))).toBeUndefined();
    expect(findToken(entries, "a")?.name).toBe("a");
  });
});
