import { X509Certificate, createHash } from "node:crypto";
import { chmod, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { exitCodes } from "../../src/cli/exit-codes.ts";
import { createSluiceClient, describeError } from "../../src/client/index.ts";
import type { SluiceClient, SluiceClientOptions } from "../../src/client/index.ts";
import { createDevCertificates } from "../../src/listen/dev-certificate.ts";
import { jsonLines, runCli, startServer, tempDir } from "../support/cli.ts";
import { useServer } from "../support/server.ts";

/** Paths. */
interface Files {
  readonly ca: string;
  readonly caKey: string;
  readonly cert: string;
  readonly key: string;
}

/** Runs `sluice cert`. */
async function makeFiles(...args: string[]): Promise<Files> {
  const out = join(await tempDir(), "certs");
  const { code, stdout, stderr } = await runCli(["cert", "--out", out, "--json", ...args]);
  expect(code, stderr).toBe(0);
  const [files] = jsonLines(stdout);
  return files as unknown as Files;
}

function useClient(options: SluiceClientOptions): SluiceClient {
  const client = createSluiceClient({ token: "sample", ...options });
  onTestFinished(() => client.close());
  return client;
}

const wires = [
  { protocol: "connect", httpVersion: "1.1" },
  { protocol: "connect", httpVersion: "2" },
  { protocol: "grpc", httpVersion: "2" },
  { protocol: "grpc-web", httpVersion: "1.1" },
  { protocol: "grpc-web", httpVersion: "2" },
] as const;

async function* names(): AsyncGenerator<{ name: string }> {
  yield await Promise.resolve({ name: "Ada" });
}

async function first(messages: AsyncIterable<{ greeting: string }>): Promise<string | undefined> {
  for await (const { greeting } of messages) return greeting;
  return undefined;
}

const shapes: Record<string, (client: SluiceClient) => Promise<string | undefined>> = {
  unary: async ({ greet }) => (await greet.greet({ name: "Ada" })).greeting,
  client: async ({ greet }) => (await greet.greetAll(names())).greeting,
  server: ({ greet }) => first(greet.greetRepeatedly({ name: "Ada", times: 1 })),
  bidi: ({ greet }) => first(greet.greetEach(names())),
};

async function messageOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => "no failure",
    (error: unknown) => (error as Error).message,
  );
}

describe("the files of `sluice cert`", () => {
  it.each(["localhost", "127.0.0.1", "::1"])("let the typed client call a server at %s, given the CA", async (host) => {
    const files = await makeFiles();
    const server = await useServer({ host, tlsCert: files.cert, tlsKey: files.key });
    expect(server.url).toMatch(/^https:/);
    const ca = await readFile(files.ca);
    for (const wire of wires) {
      const client = useClient({ url: server.url, ca, ...wire });
      for (const [shape, greet] of Object.entries(shapes)) {
        expect(await greet(client), `${wire.protocol} over HTTP/${wire.httpVersion}, ${shape}`).toBe("Hello, Ada!");
      }
    }
  });

  it("come with the hash that a page may accept the certificate by", async () => {
    const out = join(await tempDir(), "certs");
    const { stdout } = await runCli(["cert", "--out", out]);
    const { raw } = new X509Certificate(await readFile(join(out, "cert.pem")));
    expect(stdout).toContain(createHash("sha256").update(raw).digest("hex"));
  });

  it("without the CA, fail with a message that says so and what to do", async () => {
    const files = await makeFiles();
    const server = await useServer({ tlsCert: files.cert, tlsKey: files.key });
    const others = await createDevCertificates({ hosts: ["127.0.0.1"], days: 1 });
    for (const ca of [undefined, others.ca]) {
      for (const wire of wires) {
        const client = useClient({ url: server.url, ...wire, ...(ca === undefined ? {} : { ca }) });
        for (const [shape, greet] of Object.entries(shapes)) {
          expect(await messageOf(greet(client)), `${wire.protocol} over HTTP/${wire.httpVersion}, ${shape}`).toContain(
            `the certificate of ${server.url} is signed by an unknown CA: give that CA's PEM as \`ca\``,
          );
        }
      }
    }
    const { code, stderr } = await runCli(["greet", "Ada", "--url", server.url]);
    expect(stderr).toContain("its certificate is signed by an unknown CA; give that CA's file with --ca");
    expect(code).toBe(exitCodes.unavailable.code);
  });

  it("for another host, fail with a message that says so and what to do", async () => {
    const files = await makeFiles("--host", "other.example", "10.1.2.3");
    const server = await useServer({ tlsCert: files.cert, tlsKey: files.key });
    const ca = await readFile(files.ca);
    const byName = server.url.replace("127.0.0.1", "localhost");
    for (const url of [server.url, byName]) {
      for (const wire of wires) {
        const client = useClient({ url, ca, ...wire });
        for (const [shape, greet] of Object.entries(shapes)) {
          expect(await messageOf(greet(client)), `${wire.protocol} over HTTP/${wire.httpVersion}, ${shape}`).toContain(
            `the certificate of ${url} is for another host name: call the server by a name that is in the certificate`,
          );
        }
      }
    }
    const { code, stderr } = await runCli(["greet", "Ada", "--url", server.url, "--ca", files.ca]);
    expect(stderr).toContain("its certificate is for another host name; check --url, or `sluice cert --host`");
    expect(code).toBe(exitCodes.unavailable.code);
  });

  it("past their days, fail with a message that says so", async () => {
    const dayAgo = (): Date => new Date(Date.now() - 2 * 86_400_000);
    const expired = await createDevCertificates({ hosts: ["127.0.0.1"], days: 1, now: dayAgo });
    const dir = await tempDir();
    await writeFile(join(dir, "cert.pem"), expired.cert);
    await writeFile(join(dir, "key.pem"), expired.key);
    const server = await useServer({ tlsCert: join(dir, "cert.pem"), tlsKey: join(dir, "key.pem") });
    const client = useClient({ url: server.url, ca: expired.ca });
    const error: unknown = await client.greet.greet({ name: "Ada" }).catch((thrown: unknown) => thrown);
    expect((error as Error).message).toContain("is not valid at this time: renew it");
    expect(describeError(error, server.url)).toContain("is not valid at this time");
  });

  it("are tried once: no second attempt makes a certificate right", async () => {
    const files = await makeFiles();
    const server = await useServer({ tlsCert: files.cert, tlsKey: files.key });
    const client = useClient({ url: server.url });
    const retries: unknown[] = [];
    const read = (async () => {
      for await (const _ of client.data.read("s", { onRetry: (error) => retries.push(error) }));
    })();
    expect(await messageOf(read)).toContain("unknown CA");
    expect(retries).toEqual([]);
  });

  it("keep the keys from other users, also in the place of files that those may read", async () => {
    const files = await makeFiles();
    for (const key of [files.key, files.caKey]) expect((await stat(key)).mode & 0o777).toBe(0o600);
    const out = join(files.key, "..");
    for (const key of [files.key, files.caKey]) await chmod(key, 0o644);
    expect((await runCli(["cert", "--out", out, "--force"])).code).toBe(0);
    for (const key of [files.key, files.caKey]) expect((await stat(key)).mode & 0o777).toBe(0o600);
    expect((await readdir(out)).sort()).toEqual(["ca-key.pem", "ca.pem", "cert.pem", "key.pem"]);
  });

  it("are not overwritten without --force, not one of them", async () => {
    const files = await makeFiles();
    const out = join(files.key, "..");
    const texts = (): Promise<string[]> => Promise.all(Object.values(paths).map((path) => readFile(path, "utf8")));
    const paths = { ca: files.ca, caKey: files.caKey, cert: files.cert, key: files.key };
    const before = await texts();
    const refused = await runCli(["cert", "--out", out]);
    expect(refused.stderr).toContain("ca.pem exists already: give --force to overwrite it, or another --out");
    expect(refused.code).toBe(exitCodes.conflict.code);
    expect(await texts()).toEqual(before);

    for (const path of [files.ca, files.caKey, files.cert]) await rm(path);
    expect((await runCli(["cert", "--out", out])).code).toBe(exitCodes.conflict.code);
    expect(await readdir(out)).toEqual(["key.pem"]);

    expect((await runCli(["cert", "--out", out, "--force"])).code).toBe(0);
    for (const [at, text] of (await texts()).entries()) expect(text).not.toBe(before[at]);
  });

  it("are for the hosts and days that were asked for, and the CA can sign no other CA", async () => {
    const files = await makeFiles("--host", "dev.example", "*.dev.example", "10.1.2.3", "[fd00::1]", "--days", "30");
    const [ca, cert] = await Promise.all(
      [files.ca, files.cert].map(async (path) => new X509Certificate(await readFile(path))),
    );
    expect(cert?.subjectAltName).toBe(
      "DNS:dev.example, DNS:*.dev.example, IP Address:10.1.2.3, IP Address:FD00:0:0:0:0:0:0:1",
    );
    expect(cert?.checkHost("a.dev.example")).toBeDefined();
    expect(cert?.checkHost("other.example")).toBeUndefined();
    expect(cert?.ca).toBe(false);
    expect(ca?.ca).toBe(true);
    if (ca !== undefined) expect(cert?.verify(ca.publicKey)).toBe(true);
    const days = (Date.parse(cert?.validTo ?? "") - Date.now()) / 86_400_000;
    expect(days).toBeGreaterThan(29);
    expect(days).toBeLessThan(30.01);
  });

  it("are what the command says to use next", async () => {
    const out = join(await tempDir(), "certs");
    const { stdout } = await runCli(["cert", "--out", out]);
    const serve = /sluice serve (--tls-cert \S+ --tls-key \S+)/.exec(stdout)?.[1]?.split(" ") ?? [];
    const ca = /sluice greet Ada --url https:\/\/localhost:8080 (--ca \S+)/.exec(stdout)?.[1]?.split(" ") ?? [];
    const { url } = await startServer([...serve, "--host", "localhost"]);
    expect(url).toMatch(/^https:\/\/localhost:/);
    expect((await runCli(["greet", "Ada", "--url", url, ...ca])).stdout).toBe("Hello, Ada!\n");
  });
});
