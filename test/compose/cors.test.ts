import { describe, expect, it } from "vitest";
import { useServer } from "../support/server.ts";
import { useTokensFile } from "../support/tokens.ts";

const origin = "https://app.example.com";

function preflight(url: string, from: string): Promise<Response> {
  return fetch(new URL("/greet.v1.GreetService/Greet", url), {
    method: "OPTIONS",
    headers: {
      Origin: from,
      "Access-Control-Request-Method": "POST",
      "Access-Control-Request-Headers": "authorization,connect-protocol-version,content-type",
    },
  });
}

describe("CORS", () => {
  it("admits pages of the listed origins, with the headers that the protocols and the token need", async () => {
    const server = await useServer({ corsOrigins: [origin] });
    const answer = await preflight(server.url, origin);
    expect(answer.status).toBe(204);
    expect(answer.headers.get("access-control-allow-origin")).toBe(origin);
    const allowed = answer.headers.get("access-control-allow-headers")?.toLowerCase().split(", ");
    expect(allowed).toEqual(expect.arrayContaining(["authorization", "acme-token", "connect-protocol-version"]));
    expect(answer.headers.get("vary")).toBe("Origin");

    const call = await fetch(new URL("/greet.v1.GreetService/Greet", server.url), {
      method: "POST",
      headers: { Origin: origin, "Content-Type": "application/json", Authorization: "Bearer sample" },
      body: JSON.stringify({ name: "Ada" }),
    });
    expect(call.headers.get("access-control-allow-origin")).toBe(origin);
    expect(call.headers.get("access-control-expose-headers")).toContain("Trailer-Greet-Count");
    expect(await call.json()).toEqual({ greeting: "Hello, Ada!" });
  });

  it("shows an error, such as a missing token, to an admitted page", async () => {
    const server = await useServer({ corsOrigins: ["*"], tokensFile: await useTokensFile() });
    const call = await fetch(new URL("/greet.v1.GreetService/Greet", server.url), {
      method: "POST",
      headers: { Origin: origin, "Content-Type": "application/json" },
      body: "{}",
    });
    expect(call.status).toBe(401);
    expect(call.headers.get("access-control-allow-origin")).toBe("*");
  });

  for (const [what, corsOrigins] of [
    ["another origin", ["https://other.example.com"]],
    ["any origin when none is listed", []],
  ] as const) {
    it(`does not admit ${what}`, async () => {
      const server = await useServer({ corsOrigins });
      const answer = await preflight(server.url, origin);
      expect(answer.headers.get("access-control-allow-origin")).toBeNull();
    });
  }
});
