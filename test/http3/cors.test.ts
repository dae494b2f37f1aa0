import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import type { Config } from "../../src/config.ts";
import { within } from "../support/deadline.ts";
import { Received, tlsFiles, useHttp3Client } from "../support/http3.ts";
import { useServer } from "../support/server.ts";
import { useTokensFile } from "../support/tokens.ts";

const origin = "https://app.example.com";

async function ask(
  { corsOrigins, tokensFile }: Partial<Config>,
  method: string,
  header: Record<string, string>,
  body?: string,
): Promise<{ status: number; header: Headers; text: string }> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-cors-"));
  onTestFinished(() => rm(dir, { recursive: true }));
  const tls = { tlsCert: join(dir, "cert.pem"), tlsKey: join(dir, "key.pem") };
  await Promise.all([writeFile(tls.tlsCert, tlsFiles.cert), writeFile(tls.tlsKey, tlsFiles.key)]);
  const server = await useServer({
    ...tls,
    http3: true,
    ...(corsOrigins === undefined ? {} : { corsOrigins }),
    tokensFile,
  });
  const url = `https://127.0.0.1:${server.http3Port ?? 0}`;
  const received = new Received();
  const request = { method, url: `${url}/greet.v1.GreetService/Greet`, header: new Headers(header) };
  const exchange = await useHttp3Client(url)(request, received);
  if (body !== undefined) exchange.write([Buffer.from(body)], () => undefined);
  exchange.end();
  await within(10_000, "the answer", received.end.promise);
  return { ...(await received.head.promise), text: received.text };
}

const preflight = {
  Origin: origin,
  "Access-Control-Request-Method": "POST",
  "Access-Control-Request-Headers": "authorization,connect-protocol-version,content-type",
};

describe("CORS over HTTP/3", () => {
  it("admits pages of the listed origins", async () => {
    const { status, header } = await ask({ corsOrigins: [origin] }, "OPTIONS", preflight);
    expect(status).toBe(204);
    expect(header.get("access-control-allow-origin")).toBe(origin);
    expect(header.get("access-control-allow-headers")?.toLowerCase().split(", ")).toEqual(
      expect.arrayContaining(["authorization", "acme-token", "connect-protocol-version"]),
    );
    expect(header.get("vary")).toBe("Origin");
  });

  it("lets them read answers and errors", async () => {
    const call = { Origin: origin, "Content-Type": "application/json" };
    const answer = await ask(
      { corsOrigins: [origin] },
      "POST",
      { ...call, Authorization: "Bearer sample" },
      '{"name":"Ada"}',
    );
    expect([answer.status, answer.text]).toEqual([200, '{"greeting":"Hello, Ada!"}']);
    expect(answer.header.get("access-control-allow-origin")).toBe(origin);
    expect(answer.header.get("access-control-expose-headers")).toContain("Trailer-Greet-Count");
    const refused = await ask({ corsOrigins: ["*"], tokensFile: await useTokensFile() }, "POST", call, "{}");
    expect([refused.status, refused.header.get("access-control-allow-origin")]).toEqual([401, "*"]);
  });

  for (const [what, corsOrigins] of [
    ["another origin", ["https://other.example.com"]],
    ["any origin when none is listed", []],
  ] as const) {
    it(`does not admit ${what}`, async () => {
      const { header } = await ask({ corsOrigins }, "OPTIONS", preflight);
      expect(header.get("access-control-allow-origin")).toBeNull();
    });
  }
});
