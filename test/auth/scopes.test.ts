import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allows, isScope, requireScope } from "../../src/auth/scopes.ts";
import type { Need } from "../../src/auth/scopes.ts";

const read = (stream: string): Need => ({ kind: "data", access: "read", stream });
const write = (stream: string): Need => ({ kind: "data", access: "write", stream });
const greet: Need = { kind: "greet" };
const name = fc.stringMatching(/^[a-z0-9][a-z0-9._/-]{0,20}$/);

describe("a scope", () => {
  it.each(["greet", "admin", "data:read:a", "data:read:*", "data:write:logs/*", "data:write:a.b_c-d/0"])(
    "may be %s",
    (scope) => {
      expect(isScope(scope)).toBe(true);
    },
  );

  it.each([
    "",
    "Greet",
    "greet ",
    "greet\n",
    "greet*",
    "*",
    "admin:all",
    "data",
    "data:read",
    "data:read:",
    "data:*:a",
    "data:append:a",
    "data:read:a*b",
    "data:read:**",
    "data:read:A",
    "data:read:a b",
    "data:read:a\n",
  ])("is not %j", (scope) => {
    expect(isScope(scope)).toBe(false);
  });
});

describe("what scopes allow", () => {
  it.each<[scope: string, allowed: Need[], refused: Need[]]>([
    ["admin", [greet, read("a"), write("a")], []],
    ["greet", [greet], [read("greet"), write("a")]],
    ["data:read:logs", [read("logs")], [write("logs"), read("logs/a"), read("log"), read("logs2"), greet]],
    ["data:write:logs", [write("logs")], [read("logs"), write("logs/a"), greet]],
    [
      "data:read:logs/*",
      [read("logs/"), read("logs/a"), read("logs/a/b")],
      [read("logs"), read("logsa"), write("logs/a")],
    ],
    ["data:read:logs*", [read("logs"), read("logs/a"), read("logs2")], [read("log"), read("a/logs"), write("logs")]],
    ["data:read:*", [read("a"), read("z/z")], [write("a"), greet]],
    // A dot is a dot.
    ["data:read:a.b", [read("a.b")], [read("axb")]],
  ])("%s", (scope, allowed, refused) => {
    const principal = { name: "p", scopes: [scope] };
    for (const need of allowed) expect(allows(principal, need), JSON.stringify(need)).toBe(true);
    for (const need of refused) expect(allows(principal, need), JSON.stringify(need)).toBe(false);
  });

  it("is what any of them allows", () => {
    const principal = { name: "p", scopes: ["greet", "data:read:a", "data:write:b"] };
    expect([greet, read("a"), write("b"), read("b"), write("a")].map((need) => allows(principal, need))).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
  });

  it("with a prefix is every stream that begins with it, and no other", () => {
    fc.assert(
      fc.property(name, name, (prefix, stream) => {
        const principal = { name: "p", scopes: [`data:read:${prefix}*`] };
        expect(allows(principal, read(stream))).toBe(stream.startsWith(prefix));
        expect(allows(principal, read(prefix + stream))).toBe(true);
        expect(allows(principal, write(prefix + stream))).toBe(false);
      }),
    );
  });

  it("is nothing for nobody, and without scopes", () => {
    for (const principal of [undefined, { name: "p", scopes: [] }]) {
      expect(() => {
        requireScope(principal, greet);
      }).toThrow("it needs the scope greet");
      expect(() => {
        requireScope(principal, write("a/b"));
      }).toThrow("it needs the scope data:write:a/b");
    }
  });
});
