import { createContextValues } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { createRequestGate, tokenOf } from "../../src/auth/gate.ts";
import type { GateContext } from "../../src/auth/gate.ts";
import { principalKey } from "../../src/auth/principal.ts";
import type { Verifier } from "../../src/auth/verifier.ts";

describe("the token of a request", () => {
  it.each<[what: string, headers: [string, string][]]>([
    ["Acme-Token", [["Acme-Token", "t"]]],
    ["Authorization", [["Authorization", "Bearer t"]]],
    ["the scheme in small letters", [["authorization", "bearer t"]]],
    ["the scheme in capitals", [["AUTHORIZATION", "BEARER t"]]],
    ["several blanks", [["Authorization", "  Bearer   t "]]],
    [
      "both, the same",
      [
        ["Acme-Token", "t"],
        ["Authorization", "Bearer t"],
      ],
    ],
    [
      "an empty Authorization besides",
      [
        ["Acme-Token", "t"],
        ["Authorization", ""],
      ],
    ],
    [
      "an empty Acme-Token besides",
      [
        ["Acme-Token", ""],
        ["Authorization", "Bearer t"],
      ],
    ],
    [
      "a Bearer without a token besides",
      [
        ["Acme-Token", "t"],
        ["Authorization", "Bearer "],
      ],
    ],
  ])("is taken: %s", (_, headers) => {
    expect(tokenOf(new Headers(headers))).toBe("t");
  });

  it("may have several characters in either header", () => {
    expect(tokenOf(new Headers([["Acme-Token", "t0.k-n"]]))).toBe("t0.k-n");
    expect(tokenOf(new Headers([["Authorization", "Bearer t0.k-n"]]))).toBe("t0.k-n");
  });

  it.each<[what: string, headers: [string, string][]]>([
    ["no header", []],
    ["an empty Acme-Token", [["Acme-Token", ""]]],
    ["a blank Acme-Token", [["Acme-Token", "   "]]],
    ["an empty Authorization", [["Authorization", ""]]],
    ["Bearer without a token", [["Authorization", "Bearer"]]],
    ["Bearer and blanks", [["Authorization", "Bearer   "]]],
    [
      "both empty",
      [
        ["Acme-Token", ""],
        ["Authorization", ""],
      ],
    ],
  ])("is missing: %s", (_, headers) => {
    expect(() => tokenOf(new Headers(headers))).toThrow(/^no token provided$/);
  });

  it.each<[what: string, headers: [string, string][]]>([
    ["another scheme", [["Authorization", "Basic t"]]],
    ["no scheme", [["Authorization", "t"]]],
    ["a scheme that only begins so", [["Authorization", "Bearers t"]]],
    ["no blank", [["Authorization", "Bearer:t"]]],
    ["two tokens", [["Authorization", "Bearer t u"]]],
    [
      "two Authorizations",
      [
        ["Authorization", "Bearer t"],
        ["Authorization", "Bearer t"],
      ],
    ],
    [
      "both, different",
      [
        ["Acme-Token", "t"],
        ["Authorization", "Bearer u"],
      ],
    ],
    [
      "both, different in case",
      [
        ["Acme-Token", "t"],
        ["Authorization", "Bearer T"],
      ],
    ],
    [
      "another scheme besides",
      [
        ["Acme-Token", "t"],
        ["Authorization", "Basic t"],
      ],
    ],
  ])("is invalid: %s", (_, headers) => {
    expect(() => tokenOf(new Headers(headers))).toThrow(/^invalid token$/);
  });
});

describe("the gate", () => {
  const seen: string[] = [];
  const verifier: Pick<Verifier, "verify"> = {
    verify(token) {
      seen.push(token);
      return Promise.resolve({ name: `of ${token}`, scopes: [] });
    },
  };
  const contextOf = (headers: Record<string, string>): GateContext => ({
    service: GreetService,
    requestHeader: new Headers(headers),
    values: createContextValues(),
  });
  const gateOf = (openServices: string[]) =>
    createRequestGate({
      verifier: { ...verifier, reload: () => Promise.resolve(), close: () => undefined },
      openServices,
    });

  it("leaves the principal with the call", async () => {
    const context = contextOf({ "acme-token": "t" });
    await gateOf([])(context);
    expect(context.values.get(principalKey)).toEqual({ name: "of t", scopes: [] });
  });

  it("does not ask at open services, not even about a token that is there", async () => {
    seen.length = 0;
    const context = contextOf({ "acme-token": "wrong" });
    await gateOf([GreetService.typeName])(context);
    expect(seen).toEqual([]);
    expect(context.values.get(principalKey)).toBeUndefined();
  });

  it("asks about what is no RPC, whatever services are open", async () => {
    const { service: _, ...context } = contextOf({ "acme-token": "t" });
    await gateOf([GreetService.typeName])(context);
    expect(context.values.get(principalKey)).toEqual({ name: "of t", scopes: [] });
  });

  it("refuses a token whose scopes do not cover what the call needs", async () => {
    const context = { ...contextOf({ "acme-token": "t" }), needed: { kind: "greet" } as const };
    await expect(gateOf([])(context)).rejects.toMatchObject({ problem: { kind: "permission-denied", needs: "greet" } });
  });

  it("does not ask about what is no token", async () => {
    seen.length = 0;
    await expect(gateOf([])(contextOf({}))).rejects.toMatchObject({ problem: { kind: "unauthenticated" } });
    expect(seen).toEqual([]);
  });
});
