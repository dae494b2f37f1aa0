import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createSluiceClient } from "../../src/client/index.ts";
import type { SluiceClientOptions } from "../../src/client/index.ts";
import type { Server } from "../../src/compose.ts";
import { createDevCertificates } from "../../src/listen/dev-certificate.ts";
import { within } from "../support/deadline.ts";
import { startServer } from "../support/server.ts";

const ours = await createDevCertificates({ hosts: ["127.0.0.1"], days: 2 });
const strangers = await createDevCertificates({ hosts: ["127.0.0.1"], days: 2 });

let dir: string;
let files: { tlsCert: string; tlsKey: string; tlsClientCa: string };
let server: Server;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "sluice-client-certificates-"));
  files = { tlsCert: join(dir, "cert.pem"), tlsKey: join(dir, "key.pem"), tlsClientCa: join(dir, "ca.pem") };
  await Promise.all([
    writeFile(files.tlsCert, ours.cert),
    writeFile(files.tlsKey, ours.key),
    writeFile(files.tlsClientCa, ours.ca),
  ]);
  server = await startServer(files);
});

afterAll(async () => {
  await server.close();
  await rm(dir, { recursive: true });
});

async function greet(options: Pick<SluiceClientOptions, "httpVersion" | "cert" | "key">): Promise<string> {
  await using client = createSluiceClient({ url: server.url, token: "sample", ca: ours.ca, ...options });
  const { greeting } = await within(10_000, "an answer", client.greet.greet({ name: "Ada" }));
  return greeting;
}

describe.each(["1.1", "2"] as const)("client certificates over HTTP/%s", (httpVersion) => {
  it("let in who has one that the CA has signed", async () => {
    expect(await greet({ httpVersion, cert: ours.cert, key: ours.key })).toBe("Hello, Ada!");
  });

  it("keep out who has none", async () => {
    await expect(greet({ httpVersion })).rejects.toThrow(/certificate required|socket hang up|ECONNRESET|closed/i);
  });

  it("keep out who has one of another CA", async () => {
    const { cert, key } = strangers;
    await expect(greet({ httpVersion, cert, key })).rejects.toThrow(/unknown ca|socket hang up|ECONNRESET|closed/i);
  });
});

it("a file without a certificate is refused, instead of every client", async () => {
  await expect(startServer({ ...files, tlsClientCa: files.tlsKey })).rejects.toThrow(
    /--tls-client-ca must be a PEM file with certificates/,
  );
});
