import { Code, ConnectError } from "@connectrpc/connect";
import type { Interceptor } from "@connectrpc/connect";
import { pino } from "pino";
import { describe, expect, it, onTestFinished } from "vitest";
import type { StartOptions } from "../../src/compose.ts";
import { DomainError, principalKey } from "../../src/index.ts";
import { startServer, useServer } from "../support/server.ts";
import { tally, tallyService } from "../support/tally.ts";
import { useTokensFile } from "../support/tokens.ts";

const service = tallyService("TallyService");

/** A unary call with Connect, or a stream, in JSON. */
async function call(
  url: string,
  path: string,
  { token = "sample", streaming = false, body = {} }: { token?: string; streaming?: boolean; body?: unknown } = {},
): Promise<{ status: number; text: string }> {
  const json = Buffer.from(JSON.stringify(body));
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(json.byteLength, 1);
  const response = await fetch(new URL(path, url), {
    method: "POST",
    headers: {
      "content-type": streaming ? "application/connect+json" : "application/json",
      ...(token === "" ? {} : { authorization: `Bearer ${token}` }),
    },
    body: new Uint8Array(streaming ? Buffer.concat([prefix, json]) : json),
  });
  return { status: response.status, text: await response.text() };
}

describe("services of one's own", () => {
  const wrong: [what: string, options: StartOptions, message: RegExp][] = [
    [
      "a scope that is none",
      { routes: (router) => router.service(service, tally as object, { scope: "rpc:tally.v1.TallyService/" }) },
      /"rpc:tally.v1.TallyService\/" is not a scope: a scope is greet, admin, .* rpc:NAME with NAME a service/,
    ],
    [
      "a scope that is none for a method",
      { routes: (router) => router.service(service, tally as object, { scope: { add: "add" } }) },
      /"add" is not a scope/,
    ],
    [
      "a scope for a method that there is not",
      { routes: (router) => router.service(service, tally as object, { scope: { Add: "admin" } }) },
      /tally.v1.TallyService has no method "Add", its methods are add, sum, watch, talk/,
    ],
    [
      "a scope that is none for an RPC",
      {
        routes: (router) => {
          for (const method of service.methods) router.rpc(method, (() => ({})) as never, { scope: "rpc:" });
        },
      },
      /"rpc:" is not a scope/,
    ],
    [
      "a scope that is none for a stream",
      {
        streams: ({ onStream }) => {
          onStream("/x", () => undefined, { scope: "rpc:a b" });
        },
      },
      /"rpc:a b" is not a scope/,
    ],
    ["a scope that is none for sessions", { webTransportScope: "sessions" }, /"sessions" is not a scope/],
  ];
  for (const [what, options, message] of wrong) {
    it(`fail the start with ${what}`, async () => {
      const failure = await startServer({}, options).then(
        (server) => server.close(),
        (error: unknown) => error,
      );
      expect(failure).toBeInstanceOf(DomainError);
      expect(failure).toMatchObject({ problem: { kind: "config" }, message: expect.stringMatching(message) as string });
    });
  }

  it("are refused with the scope that is missing", async () => {
    const tokensFile = await useTokensFile({ t: ["greet"], add: ["rpc:tally.v1.TallyService/Add"] });
    const server = await useServer({ tokensFile }, { routes: (router) => router.service(service, tally as object) });
    expect(await call(server.url, "/tally.v1.TallyService/Add", { token: "t" })).toEqual({
      status: 403,
      text: expect.stringContaining(
        "it needs the scope rpc:tally.v1.TallyService, or rpc:tally.v1.TallyService/Add",
      ) as string,
    });
    expect(await call(server.url, "/tally.v1.TallyService/Add", { token: "add" })).toMatchObject({ status: 200 });
  });

  it("are open if --open-services lists them, whatever their scope", async () => {
    const server = await useServer(
      { openServices: ["tally.v1.TallyService"] },
      { routes: (router) => router.service(service, tally as object, { scope: "admin" }) },
    );
    expect(await call(server.url, "/tally.v1.TallyService/Add", { token: "" })).toMatchObject({ status: 200 });
  });

  it("can be added by the RPC, each with its scope; the last one that is added is the one that holds", async () => {
    const tokensFile = await useTokensFile({ t: ["greet"], tally: ["rpc:tally.v1.TallyService"] });
    const { add, watch } = service.method;
    if (add === undefined || watch === undefined) throw new Error("the service lacks a method");
    const server = await useServer(
      { tokensFile },
      {
        routes: (router) =>
          router
            .service(service, tally as object, { scope: "admin" })
            .rpc(add, (() => ({ n: 2 })) as never, { scope: "greet" })
            .rpc(watch, (() => tally.watch()) as never),
      },
    );
    const status = async (method: string, token: string, streaming: boolean): Promise<boolean> => {
      const { text } = await call(server.url, `/tally.v1.TallyService/${method}`, { token, streaming });
      return !text.includes("permission_denied");
    };
    expect(await status("Add", "t", false)).toBe(true);
    expect(await status("Add", "tally", false)).toBe(false);
    expect(await status("Watch", "t", true)).toBe(false);
    expect(await status("Watch", "tally", true)).toBe(true);
    expect(await status("Talk", "tally", true)).toBe(false);
  });

  it("with options of their own keep the gate, the boundary of errors and the others' interceptors", async () => {
    const errors: unknown[] = [];
    const log = pino({ level: "error" }, { write: (line: string) => errors.push(JSON.parse(line)) });
    const seen: string[] = [];
    const note =
      (name: string): Interceptor =>
      (next) =>
      (req) => {
        seen.push(name);
        return next(req);
      };
    const server = await useServer(
      {},
      {
        log,
        interceptors: [note("all")],
        routes: (router) =>
          router.service(
            service,
            {
              ...tally,
              add() {
                throw new DomainError({ kind: "stream-not-found", stream: "s" });
              },
              // eslint-disable-next-line require-yield -- it fails before
              async *watch() {
                await Promise.resolve();
                throw new Error("a bug");
              },
            } as object,
            {
              interceptors: [note("own")],
              requestGate() {
                seen.push("gate");
              },
            },
          ),
      },
    );
    for (const [method, streaming] of [
      ["Add", false],
      ["Watch", true],
    ] as const) {
      const path = `/tally.v1.TallyService/${method}`;
      seen.length = 0;
      expect((await call(server.url, path, { streaming, token: "" })).text).toContain("unauthenticated");
      expect(seen).toEqual([]);
      expect((await call(server.url, path, { streaming })).text).toMatch(
        streaming ? /internal error/ : /not_found.*does not exist/,
      );
      expect(seen).toEqual(["gate", "all", "own"]);
    }
    expect(errors).toMatchObject([{ err: { message: "a bug" } }]);
  });

  it("can only be added by the router's methods", async () => {
    const started = startServer(
      {},
      {
        routes(router) {
          router.handlers.push({} as never);
        },
      },
    );
    await expect(started).rejects.toThrow(TypeError);
  });
});

describe("interceptors of one's own", () => {
  it("run around every service, in their order, once the token and its scope have been checked", async () => {
    const tokensFile = await useTokensFile({ greeter: ["greet"], tally: ["rpc:tally.v1.*"] });
    const seen: string[] = [];
    const note =
      (name: string): Interceptor =>
      (next) =>
      async (req) => {
        seen.push(`${name}: ${req.contextValues.get(principalKey)?.name ?? "nobody"} ${req.method.name}`);
        const response = await next(req);
        response.header.append("x-seen", name);
        return response;
      };
    const server = await startServer(
      { tokensFile },
      { interceptors: [note("a"), note("b")], routes: (router) => router.service(service, tally as object) },
    );
    onTestFinished(() => server.close());
    for (const [path, token, streaming] of [
      ["/greet.v1.GreetService/Greet", "greeter", false],
      ["/tally.v1.TallyService/Watch", "tally", true],
      // Refused by scope, and by token.
      ["/tally.v1.TallyService/Add", "greeter", false],
      ["/data.v1.DataService/ListStreams", "", false],
      ["/grpc.health.v1.Health/Check", "", false],
    ] as const) {
      await call(server.url, path, { token, streaming, body: path.includes("/Greet") ? { name: "Ada" } : {} });
    }
    expect(seen).toEqual([
      "a: greeter Greet",
      "b: greeter Greet",
      "a: tally Watch",
      "b: tally Watch",
      "a: nobody Check",
      "b: nobody Check",
    ]);
  });

  it("may fail: what is expected has its code, and what is not is logged, and nothing of it sent", async () => {
    const lines: Record<string, unknown>[] = [];
    const write = (line: string): void => {
      lines.push(JSON.parse(line) as Record<string, unknown>);
    };
    const failures: Record<string, Error> = {
      quota: new ConnectError("too many today", Code.ResourceExhausted),
      domain: new DomainError({ kind: "stream-sealed", stream: "s", head: 0, tail: 1 }),
      bug: new Error("a secret of the inside"),
    };
    const server = await useServer(
      {},
      {
        log: pino({ level: "error" }, { write }),
        interceptors: [
          (next) => (req) => {
            const failure = failures[req.header.get("x-fail") ?? ""];
            if (failure !== undefined) throw failure;
            return next(req);
          },
        ],
      },
    );
    const fail = async (how: string, streaming: boolean): Promise<string> => {
      const path = streaming ? "/greet.v1.GreetService/GreetRepeatedly" : "/greet.v1.GreetService/Greet";
      const response = await fetch(new URL(path, server.url), {
        method: "POST",
        headers: {
          "content-type": streaming ? "application/connect+json" : "application/json",
          authorization: "Bearer sample",
          "x-fail": how,
        },
        body: streaming ? new Uint8Array([0, 0, 0, 0, 2, 0x7b, 0x7d]) : "{}",
      });
      return response.text();
    };
    for (const streaming of [false, true]) {
      expect(await fail("quota", streaming)).toMatch(/"resource_exhausted".*too many today/);
      expect(await fail("domain", streaming)).toMatch(/"failed_precondition".*is sealed/);
      expect(await fail("bug", streaming)).toMatch(/"internal".*internal error/);
      // They run before validation, which refuses a greeting without a name.
      expect(await fail("", streaming)).toMatch(/"invalid_argument"/);
    }
    expect(lines.map((line) => (line["err"] as Error).message)).toEqual([
      "a secret of the inside",
      "a secret of the inside",
    ]);
  });
});
