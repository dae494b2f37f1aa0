import { Code, ConnectError } from "@connectrpc/connect";
import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:http2";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { again } from "../../src/async/again.ts";
import { createSluiceClient } from "../../src/client/index.ts";
import type { SluiceClient, SluiceClientOptions } from "../../src/client/index.ts";
import type { Server } from "../../src/compose.ts";
import { isPortInUse } from "../../src/errors.ts";
import { createDevCertificates } from "../../src/listen/dev-certificate.ts";
import { runCli } from "../support/cli.ts";
import { deferred, until, within } from "../support/deadline.ts";
import { envelopeOf } from "../support/envelopes.ts";
import { Received, put, tlsFiles, useHttp3Client } from "../support/http3.ts";
import { startServerProcess } from "../support/server-process.ts";
import { startServer } from "../support/server.ts";

const strangers = await createDevCertificates({ hosts: ["127.0.0.1", "other.test"], days: 2 });

let dir: string;
let files: { tlsCert: string; tlsKey: string };
let ca: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "sluice-http3-"));
  files = { tlsCert: join(dir, "cert.pem"), tlsKey: join(dir, "key.pem") };
  ca = join(dir, "ca.pem");
  await Promise.all([
    writeFile(files.tlsCert, tlsFiles.cert),
    writeFile(files.tlsKey, tlsFiles.key),
    writeFile(ca, tlsFiles.ca),
  ]);
});

afterAll(() => rm(dir, { recursive: true }));

async function useServer(config: Parameters<typeof startServer>[0] = {}): Promise<Server> {
  const server = await startServer({ ...files, http3: true, ...config });
  onTestFinished(() => server.close());
  return server;
}

function useClient(
  server: Pick<Server, "url" | "http3Port">,
  options: Partial<SluiceClientOptions> = {},
): SluiceClient {
  const url = server.url.replace(/:\d+$/, `:${server.http3Port ?? 0}`);
  const client = createSluiceClient({ url, token: "sample", ca: tlsFiles.ca, httpVersion: "3", ...options });
  onTestFinished(() => client.close());
  return client;
}

async function failure(call: Promise<unknown>): Promise<ConnectError> {
  const error: unknown = await within(
    15_000,
    "the call's failure",
    call.then(
      () => undefined,
      (reason: unknown) => reason,
    ),
  );
  expect(error).toBeInstanceOf(ConnectError);
  return error as ConnectError;
}

describe("a server with http3", () => {
  it("has the same number for TCP and UDP, and advertises it over HTTP/1.1 and HTTP/2", async () => {
    const server = await useServer();
    expect(server.http3Port).toBe(Number(new URL(server.url).port));
    const expected = `h3=":${server.http3Port ?? 0}"; ma=86400`;
    const overHttp1 = await new Promise((resolve, reject) => {
      request(server.url, { ca: tlsFiles.ca }, (res) => {
        resolve(res.resume().headers["alt-svc"]);
      })
        .on("error", reject)
        .end();
    });
    const session = connect(server.url, { ca: tlsFiles.ca });
    const overHttp2 = await new Promise((resolve, reject) => {
      session
        .on("error", reject)
        .request({ ":path": "/" })
        .on("response", (headers) => {
          resolve(headers["alt-svc"]);
        })
        .on("error", reject)
        .end();
    });
    session.destroy();
    expect([overHttp1, overHttp2]).toEqual([expected, expected]);
  });

  it("is called by every name and family that it listens on", async () => {
    const server = await useServer({ host: "localhost", http3Port: 0 });
    for (const host of ["localhost", "127.0.0.1", "[::1]"]) {
      const client = useClient({ url: `https://${host}:1`, http3Port: server.http3Port ?? 0 });
      const { greeting } = await within(5000, "an answer", client.greet.greet({ name: host }));
      expect(greeting).toBe(`Hello, ${host}!`);
    }
  });

  it("keeps what is uploaded, and gives it back", async () => {
    const client = useClient(await useServer());
    await client.data.createStream("s");
    const payloads = Array.from({ length: 2000 }, (_, i) => Buffer.alloc(1000, i % 256));
    const appender = client.data.appender("s");
    for (const data of payloads) await appender.append([{ data }]);
    await within(10_000, "the acks", appender.close());
    const read: Buffer[] = [];
    for await (const { data } of client.data.read("s")) read.push(Buffer.from(data));
    expect(Buffer.concat(read).equals(Buffer.concat(payloads))).toBe(true);
  });

  it("has the same gate", async () => {
    const client = useClient(await useServer(), { token: "wrong" });
    expect((await failure(client.greet.greet({ name: "Ada" }))).code).toBe(Code.Unauthenticated);
    async function* requests(): AsyncGenerator<{ name: string }> {
      yield { name: "Ada" };
      await new Promise(() => undefined);
    }
    const first = client.greet.greetEach(requests())[Symbol.asyncIterator]().next();
    expect((await failure(first)).code).toBe(Code.Unauthenticated);
  });

  it("drains: running calls finish, new ones are refused, following reads are told", async () => {
    const server = await startServer({ ...files, http3: true, drainTimeout: 600_000 });
    const client = useClient(server);
    await client.data.createStream("s");
    const finish = deferred();
    const answered = deferred();
    async function* requests(): AsyncGenerator<{ name: string }> {
      yield { name: "Ada" };
      await finish.promise;
      yield { name: "Grace" };
    }
    const greetings: string[] = [];
    const running = (async () => {
      for await (const { greeting } of client.greet.greetEach(requests())) {
        greetings.push(greeting);
        answered.resolve();
      }
    })();
    await within(5000, "the first answer", answered.promise);
    let closed = false;
    const closing = server.close().then(() => (closed = true));
    // The connection is kept for the call that runs, and a new one is refused.
    await until(5000, "the refusal of new calls", async () => {
      const error: unknown = await client.greet.greet({ name: "late" }, { timeoutMs: 1000 }).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      return error instanceof ConnectError && error.code === Code.Unavailable;
    });
    expect(closed).toBe(false);
    finish.resolve();
    await within(5000, "the end of the call", running);
    expect(greetings).toEqual(["Hello, Ada!", "Hello, Grace!"]);
    await within(5000, "the close", closing);
  });

  it("tells connections to go when it drains: what comes on them is not answered, while what runs goes on", async () => {
    const server = await useServer({ drainTimeout: 600_000 });
    // Whatever fails, the drain does not last.
    onTestFinished(() => server.abort());
    const url = server.url.replace(/:\d+$/, `:${server.http3Port ?? 0}`);
    const open = useHttp3Client(url);
    const header = new Headers({ "content-type": "application/connect+json", "acme-token": "sample" });
    const request = (rpc: string) => ({ method: "POST", url: `${url}/data.v1.DataService/${rpc}`, header });
    const call = async (path: string, body?: string) => {
      const received = new Received();
      const exchange = await within(20_000, "a connection", open(request(path), received));
      if (body !== undefined) await put(exchange, received, envelopeOf(Buffer.from(body)));
      return { received, exchange };
    };
    const upload = await call("Upload", JSON.stringify({ open: { stream: "s", createIfMissing: true } }));
    const data = useClient(server).data;
    await until(20_000, "the upload's begin", () =>
      data.getStream("s").then(
        () => true,
        () => false,
      ),
    );
    const closed = server.close();
    await until(20_000, "the connection's end for new calls", async () => {
      const answered = await call("GetStream").then(
        async ({ received, exchange }) => {
          exchange.end();
          return received.head.promise.then(
            () => true,
            () => false,
          );
        },
        () => false,
      );
      return !answered;
    });
    const last = { append: { records: [{ data: "YQ==" }] } };
    await put(upload.exchange, upload.received, envelopeOf(Buffer.from(JSON.stringify(last))));
    upload.exchange.end();
    const { status } = await within(20_000, "the upload's answer", upload.received.head.promise);
    expect(status).toBe(200);
    await within(20_000, "the end", upload.received.end.promise);
    expect(upload.received.text).toContain('"nextSeq":"1"');
    await within(20_000, "the close", closed);
  });

  it("ends calls that outlast the drain with UNAVAILABLE", async () => {
    const server = await startServer({ ...files, http3: true, drainTimeout: 50 });
    const client = useClient(server);
    const answered = deferred();
    async function* requests(): AsyncGenerator<{ name: string }> {
      yield { name: "Ada" };
      await new Promise(() => undefined);
    }
    const running = (async () => {
      for await (const _ of client.greet.greetEach(requests())) answered.resolve();
    })();
    const failed = failure(running);
    await within(5000, "the first answer", answered.promise);
    await within(5000, "the close", server.close());
    expect((await failed).code).toBe(Code.Unavailable);
  });

  it("ends the calls of an aged connection, and takes them on a new one", async () => {
    const server = await useServer({ maxConnectionAge: 1000, maxConnectionAgeGrace: 100 });
    const client = useClient(server);
    async function* requests(): AsyncGenerator<{ name: string }> {
      yield { name: "Ada" };
      await new Promise(() => undefined);
    }
    const running = (async () => {
      for await (const _ of client.greet.greetEach(requests())) {
      }
    })();
    const error = await failure(running);
    expect([error.code, error.rawMessage]).toEqual([Code.Unavailable, expect.stringContaining("--max-connection-age")]);
    expect((await within(5000, "an answer", client.greet.greet({ name: "Ada" }))).greeting).toBe("Hello, Ada!");
  });

  it("refuses options and certificates that cannot be used", async () => {
    expect(() => startServer({ http3: true })).toThrow(/--http3 needs --tls-cert and --tls-key/);
    const server = await useServer();
    await expect(startServer({ ...files, http3: true, http3Port: server.http3Port ?? 0 })).rejects.toThrow(
      /UDP port \d+ of 127\.0\.0\.1 is in use/,
    );
  });
});

describe("a client over HTTP/3", () => {
  it("says that the CA is unknown, or that the name is wrong", async () => {
    const server = await useServer();
    const unknown = await failure(useClient(server, { ca: strangers.ca }).greet.greet({ name: "Ada" }));
    expect(unknown.rawMessage).toMatch(/is signed by an unknown CA: give that CA's PEM as `ca`/);

    const other = {
      tlsCert: join(dir, "other.pem"),
      tlsKey: join(dir, "other-key.pem"),
    };
    const elsewhere = await createDevCertificates({ hosts: ["other.test"], days: 2 });
    await Promise.all([writeFile(other.tlsCert, elsewhere.cert), writeFile(other.tlsKey, elsewhere.key)]);
    const wrong = await failure(useClient(await useServer(other), { ca: elsewhere.ca }).greet.greet({ name: "Ada" }));
    expect(wrong.rawMessage).toMatch(/is for another host name/);
  });

  it("refuses http URLs", () => {
    expect(() => createSluiceClient({ url: "http://127.0.0.1:1", httpVersion: "3" })).toThrow(/needs an https URL/);
  });

  it("fails when its server is gone, and finds the next one", async () => {
    // Somebody else may take the port just then, but not always.
    const client = await again(5, isPortInUse, async () => {
      const first = await startServer({ ...files, http3: true });
      const made = useClient(first);
      await within(5000, "an answer", made.greet.greet({ name: "Ada" }));
      await within(5000, "the close", first.close());
      await useServer({ port: Number(new URL(first.url).port) });
      return made;
    });
    const { greeting } = await within(10_000, "an answer", client.greet.greet({ name: "Ada" }));
    expect(greeting).toBe("Hello, Ada!");
  });
});

describe("client certificates over HTTP/3", () => {
  it("let in who has one that the CA has signed, and nobody else", async () => {
    const server = await useServer({ tlsClientCa: ca });
    const { cert, key } = tlsFiles;
    const { greeting } = await within(5000, "an answer", useClient(server, { cert, key }).greet.greet({ name: "Ada" }));
    expect(greeting).toBe("Hello, Ada!");
    for (const wrong of [{}, { cert: strangers.cert, key: strangers.key }]) {
      expect((await failure(useClient(server, wrong).greet.greet({ name: "Ada" }))).code).not.toBe(undefined);
    }
  });
});

describe("the command line", () => {
  it("serves and calls over HTTP/3, and loads nothing of it without --http3", async () => {
    const tls = ["--tls-cert", files.tlsCert, "--tls-key", files.tlsKey];
    const loaded = async (pid: number): Promise<boolean> =>
      (await readFile(`/proc/${pid}/maps`, "utf8")).includes("sluice.node");
    const without = await startServerProcess(tls);
    const with3 = await startServerProcess([...tls, "--http3"]);
    if (process.platform === "linux")
      expect([await loaded(without.pid), await loaded(with3.pid)]).toEqual([false, true]);
    for (const flags of [["--http3"], ["--http-version", "3", "--protocol", "grpc"]]) {
      const { code, stdout, stderr } = await runCli(["greet", "Ada", "--url", with3.url, "--ca", ca, ...flags]);
      expect([code, stdout, stderr]).toEqual([0, "Hello, Ada!\n", ""]);
    }
    await with3.logged(/"http":"3\.0"/, 2);
    const { code, stderr } = await runCli(["greet", "Ada", "--url", with3.url, "--http3"]);
    expect([code, stderr]).toEqual([expect.any(Number), expect.stringContaining("unknown CA")]);
    const clear = await runCli(["greet", "Ada", "--http3"]);
    expect(clear.stderr).toContain("HTTP/3 needs an https URL");
    const silent = await runCli(["greet", "Ada", "--url", without.url, "--ca", ca, "--http3"]);
    expect([silent.code, silent.stderr]).toEqual([5, expect.stringContaining("does not answer over UDP")]);
  });

  it("says what to run where there is no engine", async () => {
    const src = join(dir, "elsewhere/src");
    await cp(join(import.meta.dirname, "../../src"), src, { recursive: true });
    await writeFile(join(dir, "elsewhere/package.json"), '{"type":"module"}');
    const script = `import { Http3Engine } from "./http3/engine.ts"; try { new Http3Engine({}) } catch (e) { console.log(e.message) }`;
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], { cwd: src });
    expect(stdout).toMatch(/npm run native:build/);
    expect(stdout.trim().split("\n")).toHaveLength(1);
  });
});
