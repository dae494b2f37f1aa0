import { X509Certificate, createHash } from "node:crypto";
import { once } from "node:events";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { connect } from "node:tls";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { createSluiceClient } from "../../src/client/index.ts";
import { createDevCertificates } from "../../src/listen/dev-certificate.ts";
import type { DevCertificates } from "../../src/listen/dev-certificate.ts";
import { tempDir } from "../support/cli.ts";
import { within } from "../support/deadline.ts";
import { useServer } from "../support/server.ts";
import { startServerProcess } from "../support/server-process.ts";

let old: DevCertificates;
let fresh: DevCertificates;
beforeAll(async () => {
  const hosts = ["localhost", "127.0.0.1"];
  [old, fresh] = await Promise.all([
    createDevCertificates({ hosts, days: 1 }),
    createDevCertificates({ hosts, days: 1 }),
  ]);
});

const serialOf = ({ cert }: DevCertificates): string => new X509Certificate(cert).serialNumber;

/** Shakes hands and tells which certificate the server showed, and what was agreed on. */
async function handshake(url: string, options: { alpn?: string; maxVersion?: "TLSv1.2" } = {}) {
  const { alpn = "h2", maxVersion } = options;
  const socket = connect({
    host: "127.0.0.1",
    port: Number(new URL(url).port),
    ca: [old.ca, fresh.ca],
    ALPNProtocols: [alpn],
    ...(maxVersion === undefined ? {} : { maxVersion }),
  });
  onTestFinished(() => {
    socket.destroy();
  });
  await within(10_000, "the handshake", once(socket, "secureConnect"));
  return { serial: socket.getPeerCertificate().serialNumber, alpn: socket.alpnProtocol };
}

async function useFiles(pems: DevCertificates) {
  const dir = await tempDir();
  const [tlsCert, tlsKey] = [join(dir, "cert.pem"), join(dir, "key.pem")];
  const write = async ({ cert, key }: { cert: string; key: string }): Promise<void> => {
    await writeFile(tlsCert, cert);
    await writeFile(tlsKey, key);
  };
  await write(pems);
  return { tlsCert, tlsKey, write };
}

describe("a TLS certificate that is read again", () => {
  it("is in the next handshake, at SIGHUP of a real process", async () => {
    const { tlsCert, tlsKey, write } = await useFiles(old);
    const server = await startServerProcess(["--store", "memory", "--tls-cert", tlsCert, "--tls-key", tlsKey]);
    expect((await handshake(server.url)).serial).toBe(serialOf(old));

    await write({ cert: fresh.cert, key: "s3cr3t" });
    server.kill("SIGHUP");
    await server.logged(/"level":50.*the certificate or its key cannot be used/);
    expect(server.log).not.toContain("s3cr3t");
    expect((await handshake(server.url)).serial).toBe(serialOf(old));

    await write(fresh);
    server.kill("SIGHUP");
    await server.logged(/the TLS certificate was read again/);
    expect((await handshake(server.url)).serial).toBe(serialOf(fresh));
    const client = createSluiceClient({ url: server.url, token: "sample", ca: fresh.ca });
    onTestFinished(() => client.close());
    expect((await client.greet.greet({ name: "Ada" })).greeting).toBe("Hello, Ada!");
  });

  it("leaves open connections and their streams alone", async () => {
    const { tlsCert, tlsKey, write } = await useFiles(old);
    const server = await useServer({ tlsCert, tlsKey });
    const client = createSluiceClient({ url: server.url, token: "sample", ca: old.ca, retry: { attempts: 0 } });
    onTestFinished(() => client.close());
    const names = new TransformStream<{ name: string }>();
    const writer = names.writable.getWriter();
    async function* messages(): AsyncGenerator<{ name: string }> {
      yield* names.readable;
    }
    const greetings = client.greet.greetEach(messages())[Symbol.asyncIterator]();
    const say = async (name: string): Promise<string | undefined> => {
      const [result] = await within(10_000, "the greeting", Promise.all([greetings.next(), writer.write({ name })]));
      return result.done === true ? undefined : result.value.greeting;
    };
    expect(await say("Ada")).toBe("Hello, Ada!");
    await write(fresh);
    await server.reload();
    expect((await handshake(server.url)).serial).toBe(serialOf(fresh));
    // It trusts only the old CA, so that a new connection could not have been made.
    expect(await say("Bob")).toBe("Hello, Bob!");
    await writer.close();
  });

  it("still takes HTTP/2 and HTTP/1.1 by ALPN, and TLS 1.2", async () => {
    const { tlsCert, tlsKey, write } = await useFiles(old);
    const server = await useServer({ tlsCert, tlsKey });
    await write(fresh);
    await server.reload();
    for (const alpn of ["h2", "http/1.1"]) expect((await handshake(server.url, { alpn })).alpn).toBe(alpn);
    expect((await handshake(server.url, { maxVersion: "TLSv1.2" })).serial).toBe(serialOf(fresh));
  });

  it.each<[what: string, files: () => { cert: string; key: string }]>([
    ["with the key of another", () => ({ cert: fresh.cert, key: old.key })],
    ["that is no PEM", () => ({ cert: "-----BEGIN CERTIFICATE-----\n", key: fresh.key })],
    ["that is empty", () => ({ cert: "", key: "" })],
    ["whose key is empty", () => ({ cert: fresh.cert, key: "" })],
    ["where the files are exchanged", () => ({ cert: fresh.key, key: fresh.cert })],
  ])("%s changes nothing, and says so", async (_, files) => {
    const { tlsCert, tlsKey, write } = await useFiles(old);
    const server = await useServer({ tlsCert, tlsKey });
    await write(files());
    await expect(server.reload()).rejects.toThrow(
      /the certificate or its key cannot be used .*--tls-cert and --tls-key must be PEM files that belong together/,
    );
    expect((await handshake(server.url)).serial).toBe(serialOf(old));
    await write(fresh);
    await server.reload();
    expect((await handshake(server.url)).serial).toBe(serialOf(fresh));
  });

  it("that is gone changes nothing, and the tokens are read all the same", async () => {
    const { tlsCert, tlsKey } = await useFiles(old);
    const tokensFile = join(await tempDir(), "tokens.json");
    await writeFile(tokensFile, `{"tokens": []}`);
    const server = await useServer({ tlsCert, tlsKey, tokensFile });
    const sha256 = createHash("sha256").update("t").digest("hex");
    await writeFile(tokensFile, JSON.stringify({ tokens: [{ name: "t", sha256, scopes: ["greet"] }] }));
    await rm(tlsCert);
    await expect(server.reload()).rejects.toThrow(/--tls-cert \S+ cannot be read \(ENOENT/);
    const client = createSluiceClient({ url: server.url, token: "t", ca: old.ca });
    onTestFinished(() => client.close());
    expect((await client.greet.greet({ name: "Ada" })).greeting).toBe("Hello, Ada!");
  });

  it("is nothing for a server without TLS", async () => {
    const server = await useServer();
    await expect(server.reload()).resolves.toBeUndefined();
  });
});
