import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allows, isScope, parseScope, requireScope, streamsOpenTo } from "../../src/auth/scopes.ts";
import type { Permission } from "../../src/auth/scopes.ts";

const read = (stream: string): Permission => ({ kind: "data", access: "read", stream });
const write = (stream: string): Permission => ({ kind: "data", access: "write", stream });
const rpc = (called: string): Permission => ({ kind: "rpc", name: called });
const greet: Permission = { kind: "greet" };
const admin: Permission = { kind: "admin" };
const name = fc.stringMatching(/^[a-z0-9][a-z0-9._/-]{0,20}$/);

describe("a scope", () => {
  it.each([
    "greet",
    "admin",
    "data:read:a",
    "data:read:*",
    "data:write:logs/*",
    "data:write:a.b_c-d/0",
    "rpc:Tally",
    "rpc:tally.v1.TallyService",
    "rpc:tally.v1.TallyService/Add",
    "rpc:tally.v1.TallyService/*",
    "rpc:tally.v1.TallyService/Get*",
    "rpc:tally.v1.*",
    "rpc:tally.v1.Tally*",
    "rpc:*",
    "rpc:/",
    "rpc:/tunnel",
    "rpc:/rooms/a-b.c:1",
    "rpc:/rooms/*",
    "rpc:/*",
  ])("may be %s", (scope) => {
    expect(isScope(scope)).toBe(true);
  });

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
    "rpc",
    "rpc:",
    "rpc:tally.v1.",
    "rpc:.v1",
    "rpc:tally..v1",
    "rpc:tally.v1/",
    "rpc:/a b",
    "rpc:tally.v1/Add/More",
    "rpc:tally.*.v1",
    "rpc:tally.**",
    "rpc:tally./*",
    "rpc:1tally",
    "rpc:tally-v1",
    "rpc:*/Add",
    "rpc:/a*b",
    "rpc:tally.v1.TallyService\n",
    "RPC:tally.v1.TallyService",
  ])("is not %j", (scope) => {
    expect(isScope(scope)).toBe(false);
  });
});

describe("what scopes allow", () => {
  it.each<[scope: string, allowed: Permission[], refused: Permission[]]>([
    ["admin", [greet, admin, read("a"), write("a")], []],
    // What follows the fourth letter is no name of a service.
    ["greet", [greet], [admin, read("greet"), write("a"), rpc("t"), rpc("t/Add")]],
    ["data:read:logs", [read("logs")], [write("logs"), read("logs/a"), read("log"), read("logs2"), greet]],
    ["data:write:logs", [write("logs")], [read("logs"), write("logs/a"), greet]],
    [
      "data:read:logs/*",
      [read("logs/"), read("logs/a"), read("logs/a/b")],
      [read("logs"), read("logsa"), write("logs/a")],
    ],
    ["data:read:logs*", [read("logs"), read("logs/a"), read("logs2")], [read("log"), read("a/logs"), write("logs")]],
    ["data:read:*", [read("a"), read("z/z")], [write("a"), greet]],
    ["rpc:t.v1.A", [rpc("t.v1.A"), rpc("t.v1.A/Add")], [rpc("t.v1.AB/Add"), rpc("t.v1"), rpc("t.v1.B/Add"), greet]],
    ["rpc:t.v1.A/Add", [rpc("t.v1.A/Add")], [rpc("t.v1.A"), rpc("t.v1.A/AddAll"), rpc("t.v1.A/Get")]],
    ["rpc:t.v1.*", [rpc("t.v1.A/Add"), rpc("t.v1.B"), rpc("t.v1.x.C/D")], [rpc("t.v1"), rpc("t.v10.A"), rpc("/t")]],
    ["rpc:t.v1.A/*", [rpc("t.v1.A/Add")], [rpc("t.v1.A"), rpc("t.v1.B/Add")]],
    ["rpc:t.v1.A/Get*", [rpc("t.v1.A/Get"), rpc("t.v1.A/GetAll")], [rpc("t.v1.A/Add")]],
    ["rpc:/tunnel", [rpc("/tunnel")], [rpc("/tunnel/a"), rpc("/tunnels"), rpc("tunnel")]],
    ["rpc:/rooms/*", [rpc("/rooms/a"), rpc("/rooms/")], [rpc("/rooms"), rpc("/room")]],
    ["rpc:*", [rpc("t.v1.A/Add"), rpc("/tunnel")], [greet, read("a"), write("a"), admin]],
    ["data:read:*", [], [rpc("data"), rpc("data.v1.DataService/Read")]],
    // A dot is a dot.
    ["rpc:a.b", [rpc("a.b/C")], [rpc("axb/C")]],
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
        requireScope(principal, admin);
      }).toThrow("it needs the scope admin");
      expect(() => {
        requireScope(principal, write("a/b"));
      }).toThrow("it needs the scope data:write:a/b");
      expect(() => {
        requireScope(principal, rpc("t.v1.A/Add"));
      }).toThrow("it needs the scope rpc:t.v1.A, or rpc:t.v1.A/Add");
      expect(() => {
        requireScope(principal, rpc("/tunnel"));
      }).toThrow(/it needs the scope rpc:\/tunnel$/);
      expect(() => {
        requireScope(principal, rpc("/rooms/a"));
      }).toThrow(/it needs the scope rpc:\/rooms\/a$/);
      expect(() => {
        requireScope(principal, rpc("t.v1.A/Get*"));
      }).toThrow(/it needs the scope rpc:t\.v1\.A\/Get\*$/);
    }
  });

  it("is required of a call, and enough", () => {
    expect(() => {
      requireScope({ name: "p", scopes: ["greet"] }, greet);
    }).not.toThrow();
  });
});

describe("the permission that a scope stands for", () => {
  it.each<[scope: string, permission: Permission]>([
    ["greet", greet],
    ["admin", admin],
    ["data:read:a", read("a")],
    ["data:read:logs/*", read("logs/*")],
    ["data:write:logs/a", write("logs/a")],
    ["rpc:t.v1.A/Add", rpc("t.v1.A/Add")],
    ["rpc:/tunnel", rpc("/tunnel")],
  ])("%s", (scope, permission) => {
    expect(parseScope(scope)).toEqual(permission);
  });

  it("is none for what is no scope", () => {
    expect(() => parseScope("data:append:a")).toThrow(/^"data:append:a" is not a scope: a scope is greet, admin/);
    expect(() => parseScope("data:append:a")).toThrow(
      expect.objectContaining({ problem: { kind: "config", detail: expect.any(String) } }),
    );
  });
});

describe("the streams that are open", () => {
  it.each<[scopes: string[], toRead: string[], toWrite: string[]]>([
    [[], [], []],
    [["greet", "rpc:*"], [], []],
    [["data:read:a", "data:write:b", "data:read:logs/*"], ["a", "logs/*"], ["b"]],
    [["data:read:a", "admin"], ["*"], ["*"]],
  ])("%j", (scopes, toRead, toWrite) => {
    expect(streamsOpenTo({ name: "p", scopes }, "read")).toEqual(toRead);
    expect(streamsOpenTo({ name: "p", scopes }, "write")).toEqual(toWrite);
  });
});
