import { loadPackageDefinition, credentials } from "@grpc/grpc-js";
import type { ServiceError } from "@grpc/grpc-js";
import { load } from "@grpc/proto-loader";
import { Code, createClient } from "@connectrpc/connect";
import type { Interceptor } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import type { Server, StartOptions } from "../../src/compose.ts";
import type { Config } from "../../src/config.ts";
import { deferred, until, within } from "../support/deadline.ts";
import { Received, tlsFiles, useHttp3Client } from "../support/http3.ts";
import { startServer, useServer } from "../support/server.ts";
import { failureOf } from "../support/streams.ts";
import { useTokensFile } from "../support/tokens.ts";

const sentence =
  /does not answer to the host "rebound\.test": call it as localhost or 127\.0\.0\.1, or .*--allowed-hosts/;

let dir: string;
let tls: Pick<Config, "tlsCert" | "tlsKey">;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "sluice-hosts-"));
  tls = { tlsCert: join(dir, "cert.pem"), tlsKey: join(dir, "key.pem") };
  await Promise.all([writeFile(tls.tlsCert ?? "", tlsFiles.cert), writeFile(tls.tlsKey ?? "", tlsFiles.key)]);
});
afterAll(() => rm(dir, { recursive: true }));

/** As a page at that name would call: `Host` is what the URL says. */
const asRebound: Interceptor = (next) => (req) => {
  req.header.set("host", "rebound.test");
  return next(req);
};

interface Answer {
  readonly status: number;
  readonly text: string;
}

const portOf = (server: Server): number => Number(new URL(server.url).port);

/** What comes back for these bytes. */
async function answerTo(port: number, bytes: string): Promise<Answer> {
  const socket = connect(port, "127.0.0.1");
  onTestFinished(() => {
    socket.destroy();
  });
  const end = deferred();
  let text = "";
  socket.on("data", (chunk: Buffer) => (text += chunk.toString("latin1")));
  socket.once("close", () => {
    end.resolve();
  });
  socket.on("error", () => undefined);
  socket.write(bytes);
  await within(10_000, "the answer", end.promise);
  return { status: Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1]), text };
}

/** A call of Greet with these header lines, on a connection of its own. */
function greetWith(port: number, hosts: readonly string[], target = "/greet.v1.GreetService/Greet", version = "1.1") {
  const lines = [
    `POST ${target} HTTP/${version}`,
    ...hosts,
    "authorization: Bearer sample",
    "content-type: application/json",
    "content-length: 14",
    "connection: close",
  ];
  return answerTo(port, `${lines.join("\r\n")}\r\n\r\n{"name":"Ada"}`);
}

/** The same over HTTP/2, with these pseudo-headers and headers. */
async function greetOverHttp2(server: Server, headers: Record<string, string>): Promise<Answer> {
  const session = connectHttp2(server.url.replace("localhost", "127.0.0.1"), { ca: tlsFiles.ca });
  session.on("error", () => undefined);
  onTestFinished(() => {
    session.destroy();
  });
  const stream = session.request({
    ":method": "POST",
    ":path": "/greet.v1.GreetService/Greet",
    authorization: "Bearer sample",
    "content-type": "application/json",
    ...headers,
  });
  stream.on("error", () => undefined);
  const end = deferred();
  let status = 0;
  let text = "";
  stream.on("response", (head) => (status = head[":status"] ?? 0));
  stream.on("data", (chunk: Buffer) => (text += chunk.toString()));
  stream.once("close", () => {
    end.resolve();
  });
  stream.end('{"name":"Ada"}');
  await within(10_000, "the answer", end.promise);
  return { status, text };
}

/** The same over HTTP/3: what the connection is made to, and what the request is for, are two things. */
async function greetOverHttp3(server: Server, authority: string): Promise<Answer> {
  const received = new Received();
  const exchange = await useHttp3Client(`https://127.0.0.1:${server.http3Port ?? 0}`)(
    {
      method: "POST",
      url: `https://${authority}/greet.v1.GreetService/Greet`,
      header: new Headers({ authorization: "Bearer sample", "content-type": "application/json" }),
    },
    received,
  );
  exchange.write([Buffer.from('{"name":"Ada"}')], () => undefined);
  exchange.end();
  await within(10_000, "the answer", received.end.promise);
  return { status: (await received.head.promise).status, text: received.text };
}

const loopback = [
  "localhost",
  "localhost:8080",
  "LocalHost.",
  "localhost:",
  "127.0.0.1",
  "127.1.2.3:1",
  "[::1]",
  "[::1]:80",
  "[0:0:0:0:0:0:0:1]",
  "[::ffff:127.0.0.1]",
  "[::FFFF:7f00:1]:80",
  // As clients on node:http2 write it.
  "::1",
  "::1:8080",
  "::1:46601",
];
const elsewhere = [
  "rebound.test",
  "rebound.test:8080",
  "localhost.rebound.test",
  "127.0.0.1.rebound.test",
  "xlocalhost",
  "localhost..",
  "0.0.0.0",
  "10.0.0.1",
  "127.0.0.256",
  "127.1",
  "2130706433",
  "[::]",
  "[::2]",
  "[::ffff:10.0.0.1]",
  "[::1",
  "::2",
  "::1:2:3",
  "1::1:80",
  "localhost::1",
  "user@localhost",
  "localhost@rebound.test",
  "localhost,rebound.test",
  "localhost:8080:rebound.test",
  "localhost/rebound.test",
  "localhost rebound.test",
  "%6cocalhost",
  "",
];

describe("with the sample token", () => {
  let server: Server;
  let secure: Server;
  const lines: Record<string, unknown>[] = [];
  const streams: StartOptions["streams"] = ({ onStream }) => {
    onStream("/tunnel", (request) => {
      request.accept();
    });
  };
  beforeAll(async () => {
    const log = pino({ level: "warn" }, { write: (line: string) => lines.push(JSON.parse(line) as (typeof lines)[0]) });
    server = await startServer({ corsOrigins: ["https://app.example.com"] }, { streams, log });
    secure = await startServer({ ...tls, http3: true, host: "localhost" }, { streams });
  });
  afterAll(() => Promise.all([server.close(), secure.close()]));

  for (const host of loopback) {
    it(`serves ${host} over HTTP/1.1, HTTP/2, TLS and HTTP/3`, async () => {
      // Without brackets it is no host (RFC 3986, section 3.2.2); Node's HTTP/2 client writes it so.
      const bare = host.startsWith("::");
      expect(await greetWith(portOf(server), [`Host: ${host}`])).toMatchObject({ status: bare ? 400 : 200 });
      expect(await greetOverHttp2(server, { ":authority": host })).toMatchObject({ status: 200 });
      expect(await greetOverHttp2(secure, { ":authority": host })).toMatchObject({ status: 200 });
      // What our client's URL parser does not take.
      if (/:$/.test(host) || bare) return;
      expect(await greetOverHttp3(secure, host)).toMatchObject({ status: 200 });
    });
  }

  for (const host of elsewhere) {
    it(`serves nothing to ${JSON.stringify(host)}`, async () => {
      const { status, text } = await greetWith(portOf(server), [`Host: ${host}`]);
      // A parser may find it wrong before anything is asked.
      expect([400, 421]).toContain(status);
      expect(text).not.toContain("Hello");
      const overHttp2 = await greetOverHttp2(server, { ":authority": host });
      // Node sends no answer for what it finds malformed.
      expect([0, 400, 421]).toContain(overHttp2.status);
      expect(overHttp2.text).not.toContain("Hello");
    });
  }

  it("says what to do", async () => {
    for (const answer of [
      await greetWith(portOf(server), ["Host: rebound.test"]),
      await greetOverHttp2(server, { ":authority": "rebound.test" }),
      await greetOverHttp2(secure, { ":authority": "rebound.test" }),
      await greetOverHttp3(secure, "rebound.test"),
    ]) {
      expect(answer.status).toBe(421);
      expect(answer.text).toMatch(/"code":"permission_denied"/);
      expect(answer.text.replaceAll("\\", "")).toMatch(sentence);
    }
    await until(5000, "the log's line", () => lines.length > 0);
    expect(lines[0]).toMatchObject({ msg: expect.stringContaining("--allowed-hosts") as string });
    // A flood of them is no flood of lines.
    expect(lines).toHaveLength(1);
  });

  it("does not serve a request that names no host", async () => {
    expect(await greetWith(portOf(server), [], undefined, "1.0")).toMatchObject({
      status: 421,
      text: expect.stringContaining("names no host") as string,
    });
    // RFC 9112, section 3.2: with HTTP/1.1 it is malformed.
    expect(await greetWith(portOf(server), [])).toMatchObject({ status: 400 });
    expect(await greetWith(portOf(server), ["Host: localhost"], undefined, "1.0")).toMatchObject({ status: 200 });
  });

  it("judges the host of a target in absolute form, and the other one too", async () => {
    const at = (host: string) => `http://${host}/greet.v1.GreetService/Greet`;
    const ask = (host: string, target: string) => greetWith(portOf(server), [`Host: ${host}`], at(target));
    expect(await ask("localhost", "localhost:1")).toMatchObject({ status: 200 });
    expect(await ask("localhost", "rebound.test")).toMatchObject({ status: 421 });
    expect(await ask("rebound.test", "localhost")).toMatchObject({ status: 421 });
    expect(await ask("localhost", "localhost@rebound.test")).toMatchObject({ status: 400 });
    expect(await ask("localhost", "")).toMatchObject({ status: 400 });
  });

  it("judges `Host` beside `:authority`, which must be the same", async () => {
    const ask = (authority: string, host: string) => greetOverHttp2(server, { ":authority": authority, host });
    expect(await ask("localhost", "Localhost")).toMatchObject({ status: 200 });
    expect(await ask("localhost", "rebound.test")).toMatchObject({ status: 421 });
    expect(await ask("rebound.test", "localhost")).toMatchObject({ status: 421 });
    expect(await ask("localhost", "127.0.0.1")).toMatchObject({ status: 400 });
  });

  it("asks before everything else: preflights, health, reflection, streams to take over, paths that there are not", async () => {
    const reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    for (const [method, path, headers] of [
      [
        "OPTIONS",
        "/greet.v1.GreetService/Greet",
        ["Origin: https://app.example.com", "Access-Control-Request-Method: POST"],
      ],
      ["POST", "/grpc.health.v1.Health/Check", ["content-type: application/json"]],
      ["GET", "/grpc.health.v1.Health/Check?connect=v1&encoding=json&message=%7B%7D", []],
      ["POST", reflection, ["content-type: application/json"]],
      ["POST", "/tunnel", []],
      ["GET", "/", []],
      ["HEAD", "/", []],
      ["OPTIONS", "*", []],
      ["PUT", "/absent", []],
    ] as const) {
      const lines = [
        `${method} ${path} HTTP/1.1`,
        "Host: rebound.test",
        "connection: close",
        "content-length: 0",
        ...headers,
      ];
      const answer = await answerTo(portOf(server), `${lines.join("\r\n")}\r\n\r\n`);
      expect(answer.status, `${method} ${path}`).toBe(421);
      expect(answer.text.toLowerCase(), `${method} ${path}`).not.toMatch(/access-control|alt-svc|greet-version|vary/);
      const overHttp2 = await greetOverHttp2(secure, {
        ":method": method,
        ":path": path,
        ":authority": "rebound.test",
      });
      expect(overHttp2.status, `${method} ${path}`).toBe(421);
    }
  });

  it("is understood by clients of each protocol", async () => {
    const packages = await load(join(import.meta.dirname, "../../proto/greet/v1/greet.proto"), {
      includeDirs: [join(import.meta.dirname, "../../proto")],
    });
    const { greet } = loadPackageDefinition(packages) as unknown as {
      greet: {
        v1: {
          GreetService: new (...args: unknown[]) => Record<string, (...args: unknown[]) => unknown> & { close(): void };
        };
      };
    };
    const client = new greet.v1.GreetService(`127.0.0.1:${portOf(server)}`, credentials.createInsecure(), {
      "grpc.default_authority": "rebound.test",
    });
    onTestFinished(() => {
      client.close();
    });
    const failure = deferred<ServiceError | null>();
    client["Greet"]?.({ name: "Ada" }, (error: ServiceError | null) => {
      failure.resolve(error);
    });
    const error = await within(10_000, "the failure", failure.promise);
    // grpc-js decodes only a part of what may be encoded.
    expect([error?.code, decodeURIComponent(error?.details ?? "")]).toEqual([7, expect.stringMatching(sentence)]);

    for (const transport of [
      createConnectTransport({ baseUrl: server.url, httpVersion: "1.1", interceptors: [asRebound] }),
      createGrpcWebTransport({ baseUrl: server.url, httpVersion: "1.1", interceptors: [asRebound] }),
    ]) {
      const greetService = createClient(GreetService, transport);
      const calls = [
        () => greetService.greet({ name: "Ada" }),
        async () => {
          for await (const _ of greetService.greetRepeatedly({ name: "Ada" })) expect.fail("a message");
        },
      ];
      for (const call of calls) {
        const failed = await failureOf("the call", call());
        expect(failed).toMatchObject({
          code: Code.PermissionDenied,
          rawMessage: expect.stringMatching(sentence) as string,
        });
      }
    }
  });

  it("serves what --allowed-hosts lists, and loopback still", async () => {
    const listed = await useServer({ allowedHosts: ["Sluice.example.com", "fd00::7"] });
    for (const [host, status] of [
      ["sluice.example.com", 200],
      ["SLUICE.example.com.:443", 200],
      ["[fd00:0:0::7]:1", 200],
      ["[fd00::8]:443", 421],
      ["localhost", 200],
      ["example.com", 421],
      ["a.sluice.example.com", 421],
    ] as const) {
      expect((await greetWith(portOf(listed), [`Host: ${host}`])).status, host).toBe(status);
    }
    // As Node's HTTP/2 client writes them.
    expect(await greetOverHttp2(listed, { ":authority": "fd00::7:443" })).toMatchObject({ status: 200 });
    expect(await greetOverHttp2(listed, { ":authority": "fd00::8:443" })).toMatchObject({ status: 421 });
  });

  it("keeps pages of other names away from the metrics on loopback, too", async () => {
    const { adminUrl = "" } = await useServer({ adminPort: 0, allowedHosts: ["ops.example.com"] });
    const port = Number(new URL(adminUrl).port);
    for (const [host, status] of [
      ["localhost", 200],
      ["ops.example.com", 200],
      ["rebound.test", 421],
      ["", 421],
    ] as const) {
      const { status: found } = await answerTo(
        port,
        `GET /metrics HTTP/1.1\r\nHost: ${host}\r\nconnection: close\r\n\r\n`,
      );
      expect(found, host).toBe(status);
    }
  });
});

describe("with a tokens file", () => {
  it("serves every host, unless --allowed-hosts lists some", async () => {
    const tokensFile = await useTokensFile();
    const open = await useServer({ tokensFile });
    expect(await greetWith(portOf(open), ["Host: rebound.test"])).toMatchObject({ status: 200 });
    expect(await greetOverHttp2(open, { ":authority": "a.test", host: "b.test" })).toMatchObject({ status: 200 });
    const listed = await useServer({ tokensFile, allowedHosts: ["sluice.example.com"] });
    expect(await greetWith(portOf(listed), ["Host: rebound.test"])).toMatchObject({ status: 421 });
    expect(await greetWith(portOf(listed), ["Host: sluice.example.com"])).toMatchObject({ status: 200 });
  });
});
