import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import { createHash } from "node:crypto";
import { mkdir, rename, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { DataService } from "../../gen/data/v1/data_pb.ts";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { createSluiceClient } from "../../src/client/index.ts";
import { tempDir } from "../support/cli.ts";
import { deferred, until, within } from "../support/deadline.ts";
import { createSigner } from "../support/jwks.ts";
import { startServerProcess } from "../support/server-process.ts";
import type { ServerProcess } from "../support/server-process.ts";
import { createTransport, laneName } from "../support/transports.ts";
import type { Lane } from "../support/transports.ts";

interface Token {
  readonly token: string;
  readonly scopes?: readonly string[];
  readonly expires?: Date;
}

function tokensJson(tokens: readonly Token[]): string {
  const list = tokens.map(({ token, scopes = ["admin"], expires }) => ({
    name: `token ${token}`,
    sha256: createHash("sha256").update(token).digest("hex"),
    scopes,
    expires: expires?.toISOString(),
  }));
  return JSON.stringify({ tokens: list });
}

interface Clients {
  readonly greet: Client<typeof GreetService>;
  readonly data: Client<typeof DataService>;
}

function useClients(url: string, token: string, lane: Lane = grpc): Clients {
  const made = createTransport(lane, url, { token });
  onTestFinished(made.close);
  return { greet: createClient(GreetService, made.transport), data: createClient(DataService, made.transport) };
}

const grpc = { protocol: "grpc", httpVersion: "2", tls: false } as const;
const connect = { protocol: "connect", httpVersion: "2", tls: false } as const;

async function codeOf(call: Promise<unknown>): Promise<Code | "ok"> {
  return call.then(
    () => "ok",
    (error: unknown) => ConnectError.from(error).code,
  );
}

const greetCode = (url: string, token: string): Promise<Code | "ok"> =>
  codeOf(useClients(url, token).greet.greet({ name: "Ada" }));

/** A stream that goes on until the server ends it. */
interface Running {
  /** Resolves with the first message. */
  readonly begun: Promise<void>;
  /** Resolves with the error that ends it. */
  readonly ended: Promise<ConnectError>;
}

function follow(messages: AsyncIterable<unknown>): Running {
  const begun = deferred();
  const ended = (async () => {
    try {
      for await (const _ of messages) begun.resolve();
    } catch (error) {
      begun.reject(error);
      return ConnectError.from(error);
    }
    throw new Error("the stream ended in order");
  })();
  begun.promise.catch(() => undefined);
  ended.catch(() => undefined);
  return { begun: begun.promise, ended };
}

/** Tries again with a token of a longer life while its streams have not begun: a busy machine may take longer. */
async function untilBegun(attempt: (lifeMs: number) => Promise<boolean>): Promise<void> {
  for (let lifeMs = 2000; !(await attempt(lifeMs)); lifeMs *= 2)
    if (lifeMs > 15_000) throw new Error("no stream has begun");
}

function begins(begun: Promise<unknown>): Promise<boolean> {
  const outcome = begun.then(
    () => true,
    () => false,
  );
  return within(20_000, "the first messages", outcome);
}

async function* oneAndWait(): AsyncGenerator<{ name: string }> {
  const end = deferred();
  onTestFinished(() => {
    end.resolve();
  });
  yield { name: "Ada" };
  await end.promise;
}

/** Streams that are open until somebody ends them. */
const streams = {
  server: ({ greet }: Clients): Running =>
    follow(greet.greetRepeatedly({ name: "Ada", times: 2, interval: { seconds: 3600n } })),
  bidi: ({ greet }: Clients): Running => follow(greet.greetEach(oneAndWait())),
};
const runs = [connect, grpc].flatMap((lane) =>
  Object.entries(streams).map(([shape, open]) => ({ what: `${laneName(lane)}, ${shape} streaming`, lane, open })),
);

/** A stream of each shape over each protocol, all at once. */
function openAll(url: string, token: string) {
  const running = runs.map(({ what, lane, open }) => ({ what, ...open(useClients(url, token, lane)) }));
  return {
    begun: Promise.all(running.map(({ begun }) => begun)),
    /** How each one ended. */
    ended: Promise.all(
      running.map(async ({ what, ended }) => {
        const { code, rawMessage } = await ended;
        return { what, code, rawMessage };
      }),
    ),
    /** How each one ends with this message. */
    all: (rawMessage: string) => runs.map(({ what }) => ({ what, code: Code.Unauthenticated, rawMessage })),
  };
}

describe("a tokens file of a server process", () => {
  async function useTokens(
    tokens: readonly Token[],
  ): Promise<{ server: ServerProcess; file: string; write: (tokens: readonly Token[]) => Promise<void> }> {
    const file = join(await tempDir(), "tokens.json");
    const write = (list: readonly Token[]): Promise<void> => writeFile(file, tokensJson(list));
    await write(tokens);
    const server = await startServerProcess(["--store", "memory", "--tokens-file", file]);
    return { server, file, write };
  }

  it("is read again at SIGHUP, which does not wait for the next look at it", async () => {
    const { server, write } = await useTokens([{ token: "old" }]);
    await write([{ token: "new" }]);
    server.kill("SIGHUP");
    await server.logged(/the tokens were read again/);
    expect(await greetCode(server.url, "new")).toBe("ok");
    expect(await greetCode(server.url, "old")).toBe(Code.Unauthenticated);
  });

  it.each<[how: string, replace: (file: string, text: string) => Promise<void>]>([
    ["written", (file, text) => writeFile(file, text)],
    [
      "replaced by a rename, as editors do it",
      async (file, text) => {
        await writeFile(`${file}.draft`, text);
        await rename(`${file}.draft`, file);
      },
    ],
  ])("is read again when it is %s", async (_, replace) => {
    const { server, file } = await useTokens([{ token: "old" }]);
    await replace(file, tokensJson([{ token: "new" }]));
    await until(20_000, "the new token's admission", async () => (await greetCode(server.url, "new")) === "ok");
    expect(await greetCode(server.url, "old")).toBe(Code.Unauthenticated);
  });

  it("is read again when a link on its way is swapped, as Kubernetes does it", async () => {
    const dir = await tempDir();
    for (const version of ["old", "new"]) {
      await mkdir(join(dir, `..${version}`));
      await writeFile(join(dir, `..${version}`, "tokens.json"), tokensJson([{ token: version }]));
    }
    await symlink("..old", join(dir, "..data"));
    await symlink(join("..data", "tokens.json"), join(dir, "tokens.json"));
    const server = await startServerProcess(["--store", "memory", "--tokens-file", join(dir, "tokens.json")]);
    expect(await greetCode(server.url, "old")).toBe("ok");
    await symlink("..new", join(dir, "..data_tmp"));
    await rename(join(dir, "..data_tmp"), join(dir, "..data"));
    await until(20_000, "the new token's admission", async () => (await greetCode(server.url, "new")) === "ok");
    expect(await greetCode(server.url, "old")).toBe(Code.Unauthenticated);
  });

  it("that is broken leaves the old tokens and their streams, and is in the log without what is in it", async () => {
    const { server, file, write } = await useTokens([{ token: "old" }]);
    const running = streams.server(useClients(server.url, "old"));
    await running.begun;
    await writeFile(file, `{"tokens": [{"name": "a", "sha256": s3cr3t}]}`);
    await server.logged(/"level":50.*tokens\.json cannot be used: it is not JSON/);
    server.kill("SIGHUP");
    await server.logged(/"level":50.*tokens\.json cannot be used: it is not JSON/, 2);
    expect(server.log).not.toContain("s3cr3t");
    expect(server.log).not.toContain("the tokens were read again");
    expect(await greetCode(server.url, "old")).toBe("ok");
    // The next right one is read, and ends the stream, which lived until then.
    await write([{ token: "new" }]);
    const error = await within(20_000, "the stream's end", running.ended);
    expect(error.code).toBe(Code.Unauthenticated);
  });

  it("without a token any more ends its streams, and no others", async () => {
    const { server, write } = await useTokens([{ token: "kept" }, { token: "removed" }]);
    const removed = openAll(server.url, "removed");
    const kept = openAll(server.url, "kept");
    await within(20_000, "the first messages", Promise.all([removed.begun, kept.begun]));
    await write([{ token: "kept" }]);
    server.kill("SIGHUP");
    expect(await within(20_000, "the streams' end", removed.ended)).toEqual(removed.all("invalid token"));
    // The others go on: they end when their own token goes.
    await write([]);
    server.kill("SIGHUP");
    expect(await within(20_000, "the others' end", kept.ended)).toEqual(kept.all("invalid token"));
    const calls = /"token":"token (\w+)","code":"unauthenticated"/;
    await server.logged(calls, 2 * runs.length);
    const order = [...server.log.matchAll(new RegExp(calls, "g"))].map(([, name]) => name);
    expect(order).toEqual([...runs.map(() => "removed"), ...runs.map(() => "kept")]);
  });

  it("with other scopes for a token lets its streams be resumed, as far as they still may", async () => {
    const { server, write } = await useTokens([{ token: "t" }, { token: "writer" }]);
    const writer = useClients(server.url, "writer").data;
    const client = createSluiceClient({ url: server.url, token: "t", protocol: "grpc" });
    onTestFinished(() => client.close());
    for (const name of ["kept", "lost"]) await writer.createStream({ name });
    const seen: string[] = [];
    const read = async (stream: string): Promise<void> => {
      for await (const { data } of client.data.read(stream, { follow: true })) {
        seen.push(`${stream} ${new TextDecoder().decode(data)}`);
      }
    };
    const append = (stream: string, text: string): Promise<unknown> =>
      writer.append({ stream, records: [{ data: new TextEncoder().encode(text) }] });
    const kept = codeOf(read("kept"));
    const lost = codeOf(read("lost"));
    await append("kept", "1");
    await append("lost", "1");
    await until(20_000, "the first records", () => seen.length === 2);
    await write([{ token: "t", scopes: ["data:read:kept"] }, { token: "writer" }]);
    server.kill("SIGHUP");
    expect(await within(20_000, "the end of what is not allowed", lost)).toBe(Code.PermissionDenied);
    await append("kept", "2");
    await until(20_000, "the record after the resumption", () => seen.includes("kept 2"));
    expect(seen.filter((line) => line.startsWith("kept"))).toEqual(["kept 1", "kept 2"]);
    await client.close();
    await kept;
  });

  it("ends streams when their token expires", async () => {
    const { server, write } = await useTokens([]);
    await untilBegun(async (lifeMs) => {
      const expires = new Date(Date.now() + lifeMs);
      await write([{ token: "short", expires }]);
      server.kill("SIGHUP");
      await server.logged(/the tokens were read again/);
      const short = openAll(server.url, "short");
      if (!(await begins(short.begun))) return false;
      expect(await within(20_000, "the streams' end", short.ended)).toEqual(short.all("token expired"));
      expect(Date.now()).toBeGreaterThanOrEqual(expires.getTime());
      expect(await greetCode(server.url, "short")).toBe(Code.Unauthenticated);
      return true;
    });
  });
});

describe("a JWKS file of a server process", () => {
  it("without a key any more ends the streams of the tokens that it signed", async () => {
    const [old, fresh] = await Promise.all([createSigner("old"), createSigner("fresh")]);
    const jwks = join(await tempDir(), "jwks.json");
    await writeFile(jwks, JSON.stringify({ keys: [old.jwk, fresh.jwk] }));
    const server = await startServerProcess(["--store", "memory", "--jwks", jwks]);
    const running = follow(useClients(server.url, await old.sign()).greet.greetEach(oneAndWait()));
    const other = follow(useClients(server.url, await fresh.sign()).greet.greetEach(oneAndWait()));
    await within(20_000, "the first messages", Promise.all([running.begun, other.begun]));
    await writeFile(jwks, JSON.stringify({ keys: [fresh.jwk] }));
    const error = await within(20_000, "the stream's end", running.ended);
    expect(error.code).toBe(Code.Unauthenticated);
    expect(await greetCode(server.url, await fresh.sign())).toBe("ok");
    expect(server.log).not.toContain("eyJ");
  });

  it("ends a stream when its token expires", async () => {
    const signer = await createSigner("one");
    const jwks = join(await tempDir(), "jwks.json");
    await writeFile(jwks, JSON.stringify({ keys: [signer.jwk] }));
    const server = await startServerProcess(["--store", "memory", "--jwks", jwks]);
    await untilBegun(async (lifeMs) => {
      const exp = Math.ceil((Date.now() + lifeMs) / 1000);
      const running = follow(useClients(server.url, await signer.sign({ exp })).greet.greetEach(oneAndWait()));
      if (!(await begins(running.begun))) return false;
      const error = await within(20_000, "the stream's end", running.ended);
      expect(error).toMatchObject({ code: Code.Unauthenticated, rawMessage: "token expired" });
      return true;
    });
  });
});
