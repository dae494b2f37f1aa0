import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Client, Transport } from "@connectrpc/connect";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { DataService } from "../../gen/data/v1/data_pb.ts";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import type { Server } from "../../src/compose.ts";
import { deferred, until, within } from "../support/deadline.ts";
import { startServer, useServer } from "../support/server.ts";
import { createTransport, laneName, lanes } from "../support/transports.ts";

type Greet = Client<typeof GreetService>;

async function failure(call: Promise<unknown>): Promise<ConnectError | undefined> {
  return within(
    10_000,
    "the call's end",
    call.then(
      () => undefined,
      (error: unknown) => ConnectError.from(error),
    ),
  );
}

async function drain(messages: AsyncIterable<unknown>): Promise<number> {
  let count = 0;
  for await (const _ of messages) count++;
  return count;
}

/** Never ends by itself, so that an answer can come only from the gate. */
async function* endless(ended: PromiseWithResolvers<void>): AsyncGenerator<{ name: string }> {
  yield { name: "Ada" };
  await ended.promise;
}

async function* one<T>(message: T): AsyncGenerator<T> {
  yield await Promise.resolve(message);
}

/** Each shape, with requests that are still being sent when the answer must come. */
const shapes: Record<string, (greet: Greet, ended: PromiseWithResolvers<void>) => Promise<unknown>> = {
  unary: (greet) => greet.greet({ name: "Ada" }),
  client: (greet, ended) => greet.greetAll(endless(ended)),
  server: (greet) => drain(greet.greetRepeatedly({ name: "Ada", times: 2 })),
  bidi: (greet, ended) => drain(greet.greetEach(endless(ended))),
};

describe("the gate", () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server.close());

  function useTransport(lane: (typeof lanes)[number], token: string): Transport {
    const made = createTransport(lane, server.url, { token });
    onTestFinished(made.close);
    return made.transport;
  }

  for (const lane of lanes.filter((one) => !one.tls)) {
    for (const [shape, call] of Object.entries(shapes)) {
      for (const [what, token, message] of [
        ["no token", "", "no token provided"],
        ["a wrong token", "simple", "invalid token"],
      ] as const) {
        it(`${laneName(lane)}, ${shape}: refuses ${what} at once`, async () => {
          const ended = deferred();
          onTestFinished(() => {
            ended.resolve();
          });
          const error = await failure(call(createClient(GreetService, useTransport(lane, token)), ended));
          expect(error?.code).toBe(Code.Unauthenticated);
          expect(error?.rawMessage).toBe(message);
        });
      }
    }
  }

  it("answers before the body has been sent, on a raw HTTP/1.1 connection", async () => {
    const { port } = new URL(server.url);
    const socket = connect(Number(port), "127.0.0.1");
    onTestFinished(() => {
      socket.destroy();
    });
    socket.write(
      `POST /greet.v1.GreetService/GreetAll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/connect+proto\r\nTransfer-Encoding: chunked\r\n\r\n`,
    );
    const answer = await within(
      5000,
      "the answer",
      new Promise<string>((resolve) => {
        let text = "";
        socket.on("data", (chunk: Buffer) => {
          text += chunk.toString("latin1");
          if (text.includes("unauthenticated")) resolve(text);
        });
      }),
    );
    expect(answer).toContain("no token provided");
  });

  it("takes the token from Acme-Token too", async () => {
    const transport = useTransport({ protocol: "grpc", httpVersion: "2", tls: false }, "");
    const greet = createClient(GreetService, transport);
    const headers = { "Acme-Token": "sample" };
    expect((await greet.greet({ name: "Ada" }, { headers })).greeting).toBe("Hello, Ada!");
    expect((await greet.greetAll(one({ name: "Ada" }), { headers })).greeting).toBe("Hello, Ada!");
  });

  it("lets health answer without a token", async () => {
    const transport = useTransport({ protocol: "grpc", httpVersion: "2", tls: false }, "");
    await expect(createClient(Health, transport).check({})).resolves.toMatchObject({ status: 1 });
  });
});

describe("tokens from a file", () => {
  const hash = (token: string): string => createHash("sha256").update(token).digest("hex");

  async function useTokens(tokens: object[]): Promise<{ server: Server; write: (tokens: object[]) => Promise<void> }> {
    const dir = await mkdtemp(join(tmpdir(), "sluice-tokens-"));
    onTestFinished(() => rm(dir, { recursive: true }));
    const tokensFile = join(dir, "tokens.json");
    const write = (list: object[]): Promise<void> => writeFile(tokensFile, JSON.stringify({ tokens: list }));
    await write(tokens);
    return { server: await useServer({ tokensFile }), write };
  }

  function useClients(url: string, token: string) {
    const made = createTransport({ protocol: "connect", httpVersion: "2", tls: false }, url, { token });
    onTestFinished(made.close);
    return { greet: createClient(GreetService, made.transport), data: createClient(DataService, made.transport) };
  }

  it("does not take `sample` any more", async () => {
    const { server } = await useTokens([{ name: "a", sha256: hash("t"), scopes: ["admin"] }]);
    const error = await failure(useClients(server.url, "sample").greet.greet({ name: "Ada" }));
    expect(error?.code).toBe(Code.Unauthenticated);
  });

  it("allows what the scopes say, and names the scope that is missing", async () => {
    const { server } = await useTokens([
      { name: "reader", sha256: hash("r"), scopes: ["data:read:logs/*"] },
      { name: "writer", sha256: hash("w"), scopes: ["data:write:logs/*", "greet"] },
    ]);
    const reader = useClients(server.url, "r");
    const writer = useClients(server.url, "w");
    const records = [{ data: new Uint8Array([1]) }];
    await writer.data.append({ stream: "logs/a", records, createIfMissing: true });
    await expect(drain(reader.data.read({ stream: "logs/a" }))).resolves.toBeGreaterThan(0);
    await writer.greet.greet({ name: "Ada" });

    const forbidden: [call: () => Promise<unknown>, scope: string][] = [
      [() => writer.data.append({ stream: "other", records, createIfMissing: true }), "data:write:other"],
      [() => drain(writer.data.read({ stream: "logs/a" })), "data:read:logs/a"],
      [() => reader.data.append({ stream: "logs/a", records }), "data:write:logs/a"],
      [() => reader.data.deleteStream({ name: "logs/a" }), "data:write:logs/a"],
      [() => reader.greet.greet({ name: "Ada" }), "greet"],
      [() => drain(reader.data.read({ stream: "other" })), "data:read:other"],
    ];
    for (const [call, scope] of forbidden) {
      const error = await failure(call());
      expect(error?.code).toBe(Code.PermissionDenied);
      expect(error?.rawMessage).toContain(scope);
    }
  });

  it("ends a stream with UNAUTHENTICATED when its token expires", async () => {
    // On a busy machine a short life may be over before the read has begun.
    for (let lifeMs = 1000, begun = false; !begun; lifeMs *= 2) {
      expect(lifeMs, "a life that is long enough").toBeLessThan(20_000);
      const expires = new Date(Date.now() + lifeMs).toISOString();
      const { server } = await useTokens([{ name: "short", sha256: hash("s"), scopes: ["admin"], expires }]);
      const { data } = useClients(server.url, "s");
      const read = async (): Promise<void> => {
        await data.createStream({ name: "s" });
        for await (const _ of data.read({ stream: "s", follow: true })) begun = true;
      };
      const error = await failure(read());
      expect(error?.code).toBe(Code.Unauthenticated);
      expect(error?.rawMessage).toBe("token expired");
    }
  });

  it("reads the file again when it changes, and keeps the old tokens while it is broken", async () => {
    const { server, write } = await useTokens([{ name: "a", sha256: hash("old"), scopes: ["admin"] }]);
    const old = useClients(server.url, "old").greet;
    const fresh = useClients(server.url, "new").greet;
    await write([{ name: "a", sha256: "zz", scopes: ["admin"] }]);
    await server.reload().catch(() => undefined);
    await old.greet({ name: "Ada" });
    await write([{ name: "b", sha256: hash("new"), scopes: ["admin"] }]);
    await until(
      10_000,
      "the new token's admission",
      async () => (await failure(fresh.greet({ name: "Ada" }))) === undefined,
    );
    expect((await failure(old.greet({ name: "Ada" })))?.code).toBe(Code.Unauthenticated);
  });
});
