import { Code, ConnectError } from "@connectrpc/connect";
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { createSluiceClient } from "../../src/client/index.ts";
import type { SluiceClient } from "../../src/client/index.ts";
import { readHttp3Secret } from "../../src/http3/secret.ts";
import { within } from "../support/deadline.ts";
import { tlsFiles } from "../support/http3.ts";
import { startServerProcess } from "../support/server-process.ts";
import type { ServerProcess } from "../support/server-process.ts";

let dir = "";
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "sluice-restart-"));
  await writeFile(join(dir, "cert.pem"), tlsFiles.cert);
  await writeFile(join(dir, "key.pem"), tlsFiles.key);
  return () => rm(dir, { recursive: true, force: true });
});

/** Starts a server on the port of one that was there before, or on a free one. */
function startOn(dataDir: string, store: string, port = "0"): Promise<ServerProcess> {
  const tls = ["--tls-cert", join(dir, "cert.pem"), "--tls-key", join(dir, "key.pem"), "--http3"];
  return startServerProcess([...tls, "--store", store, "--port", port], { dataDir });
}

function useClient(url: string): SluiceClient {
  const client = createSluiceClient({ url, ca: tlsFiles.ca, httpVersion: "3", token: "sample" });
  onTestFinished(() => client.close());
  return client;
}

interface Running {
  /** What the call has failed with. */
  readonly failure: Promise<unknown>;
}

/** A call that has been answered once, and then waits: nothing of it is on its way. */
async function follow(client: SluiceClient): Promise<Running> {
  const replies = client.greet.greetRepeatedly({ name: "Ada", times: 2, interval: { seconds: 3600n, nanos: 0 } });
  const iterator = replies[Symbol.asyncIterator]();
  await within(20_000, "the first greeting", iterator.next());
  const failure = iterator.next().then(
    () => undefined,
    (error: unknown) => error,
  );
  return { failure };
}

// The deadline of a wait, 25 s, is less than what QUIC's idle timeout would take.
describe.each(["lmdb", "memory"])("a server (%s) that is killed and started again", (store) => {
  it("serves calls begun since on a connection from before, and fails those from before", async () => {
    const dataDir = join(dir, `data-${store}`);
    const server = await startOn(dataDir, store);
    const client = useClient(server.url);
    const running = await follow(client);
    server.kill("SIGKILL");
    await server.exited;
    const { port } = new URL(server.url);
    await startOn(dataDir, store, port);
    const { greeting } = await within(10_000, "the first call since", client.greet.greet({ name: "Ada" }));
    expect(greeting).toBe("Hello, Ada!");
    // The new connection is kept.
    await within(10_000, "the next call", client.greet.greet({ name: "Bob" }));
    const failure = await within(20_000, "the end of the call from before", running.failure);
    expect(ConnectError.from(failure).code).toBe(Code.Unavailable);
  });

  it("fails calls that are running, though nobody calls again", async () => {
    const dataDir = join(dir, `quiet-${store}`);
    const server = await startOn(dataDir, store);
    const running = await follow(useClient(server.url));
    server.kill("SIGKILL");
    await server.exited;
    await startOn(dataDir, store, new URL(server.url).port);
    const failure = await within(20_000, "the end of the call from before", running.failure);
    expect(ConnectError.from(failure).code).toBe(Code.Unavailable);
  });
});

it("a server that is killed and stays away fails the calls that run, and those begun since", async () => {
  const server = await startOn(join(dir, "away"), "memory");
  const client = useClient(server.url);
  const running = await follow(client);
  server.kill("SIGKILL");
  await server.exited;
  const begun = client.greet.greet({ name: "Ada" }).catch((error: unknown) => error);
  for (const failure of [begun, running.failure]) {
    expect(ConnectError.from(await within(20_000, "the failure", failure)).code).toBe(Code.Unavailable);
  }
});

it("a server that is stopped for a moment keeps its calls", async () => {
  const server = await startOn(join(dir, "stopped"), "memory");
  const client = useClient(server.url);
  const uploads = client.greet.greetRepeatedly({ name: "Ada", times: 3, interval: { seconds: 1n, nanos: 0 } });
  const greetings: string[] = [];
  const reading = (async () => {
    for await (const { greeting } of uploads) {
      greetings.push(greeting);
      if (greetings.length > 1) continue;
      server.kill("SIGSTOP");
      // Long enough for a suspicion, and for less than a verdict.
      setTimeout(() => {
        server.kill("SIGCONT");
      }, 4000);
      await client.greet.greet({ name: "Bob" }, { timeoutMs: 20_000 });
    }
  })();
  await within(24_000, "the greetings", reading);
  expect(greetings).toEqual(["Hello, Ada!", "Hello, Ada!", "Hello, Ada!"]);
});

describe("the secret of a data directory", () => {
  const make = async (): Promise<string> => {
    const made = join(dir, `secret-${Math.random()}`);
    await mkdir(made);
    return made;
  };

  it("stays, is the owner's alone, and is one for all that ask at once", async () => {
    const where = await make();
    const secrets = await Promise.all(Array.from({ length: 8 }, () => readHttp3Secret(where)));
    const [first] = secrets;
    expect(first).toHaveLength(32);
    for (const secret of secrets) expect(secret).toEqual(first);
    expect(await readHttp3Secret(where)).toEqual(first);
    expect(await readdir(where)).toEqual(["http3.secret"]);
    expect((await stat(join(where, "http3.secret"))).mode & 0o777).toBe(0o600);
    expect(await readHttp3Secret(await make())).not.toEqual(first);
  });

  it("is refused if it is not what was written", async () => {
    const where = await make();
    await writeFile(join(where, "http3.secret"), "short");
    await expect(readHttp3Secret(where)).rejects.toThrow(/http3\.secret does not have 32 bytes: remove it/);
    expect(await readFile(join(where, "http3.secret"), "utf8")).toBe("short");
  });

  it.skipIf(process.getuid?.() === 0)("is refused if it cannot be read", async () => {
    const where = await make();
    await readHttp3Secret(where);
    await chmod(join(where, "http3.secret"), 0);
    await expect(readHttp3Secret(where)).rejects.toThrow(/EACCES/);
  });
});
