import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { Agent, request as requestHttp1 } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { DataService } from "../../gen/data/v1/data_pb.ts";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { createSluiceClient } from "../../src/client/index.ts";
import type { Server } from "../../src/compose.ts";
import type { ResponseReceiver } from "../../src/client/client-exchange.ts";
import {
  accessOptions,
  accessTable,
  everyToken,
  mismatchOf,
  outcomeOf,
  requestFor,
  tokens,
} from "../support/access.ts";
import type { AccessRow, Token, Wire, WireRequest, WireResponse } from "../support/access.ts";
import { deferred, within } from "../support/deadline.ts";
import { tlsFiles, useHttp3Client } from "../support/http3.ts";
import { startServer } from "../support/server.ts";
import { tokensFileOf } from "../support/tokens.ts";

let dir: string;
let clear: Server;
let secure: Server;
/** Nothing is open there. */
let closed: Server;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "sluice-access-"));
  const file = (name: string): string => join(dir, name);
  await Promise.all([
    writeFile(file("cert.pem"), tlsFiles.cert),
    writeFile(file("key.pem"), tlsFiles.key),
    writeFile(file("tokens.json"), tokensFileOf(Object.fromEntries(Object.entries(tokens)))),
  ]);
  const tokensFile = file("tokens.json");
  const tls = { tlsCert: file("cert.pem"), tlsKey: file("key.pem") };
  clear = await startServer({ tokensFile }, accessOptions);
  secure = await startServer({ tokensFile, ...tls, http3: true }, accessOptions);
  closed = await startServer({ tokensFile, openServices: [] }, accessOptions);
});
afterAll(async () => {
  await Promise.all([clear, secure, closed].map((server) => server.close()));
  await rm(dir, { recursive: true });
});

/** Makes a call, and resolves with its outcome as soon as that is known. */
type Call = (row: AccessRow, token: Token) => Promise<string>;

/** Notes a response as it comes. */
class Reply {
  readonly #known = deferred<string>();
  readonly response: WireResponse = { status: 0, headers: {}, trailers: {}, chunks: [], ended: false };
  readonly #wire: Wire;
  readonly #row: AccessRow;

  constructor(wire: Wire, row: AccessRow) {
    this.#wire = wire;
    this.#row = row;
  }

  note(change: Partial<WireResponse>): void {
    Object.assign(this.response, change);
    const outcome = outcomeOf(this.#wire, this.#row, this.response);
    if (outcome !== undefined) this.#known.resolve(outcome);
  }

  add(chunk: Uint8Array): void {
    this.response.chunks.push(chunk);
    this.note({});
  }

  broken(what: string): void {
    this.#known.resolve(`broken off: ${what}`);
  }

  outcome(): Promise<string> {
    return within(10_000, `the outcome of ${this.#row.name}`, this.#known.promise);
  }
}

function overHttp1(url: string, wire: Wire): Call {
  const agent = new Agent({ keepAlive: true, maxSockets: 10 });
  onTestFinished(() => {
    agent.destroy();
  });
  return async (row, token) => {
    const reply = new Reply(wire, row);
    const { headers, body } = requestFor(wire, row, token);
    const request = requestHttp1(new URL(row.path, url), { agent, method: "POST", headers });
    request.on("error", (error) => {
      reply.broken(error.message);
    });
    request.on("response", (response) => {
      reply.note({ status: response.statusCode ?? 0, headers: response.headers });
      response.on("data", (chunk: Buffer) => {
        reply.add(chunk);
      });
      response.on("end", () => {
        reply.note({ ended: true, trailers: response.trailers });
      });
      response.on("error", (error) => {
        reply.broken(error.message);
      });
    });
    request.end(body);
    const outcome = await reply.outcome();
    // A stream without an end would keep its connection.
    if (!reply.response.ended) request.destroy();
    return outcome;
  };
}

function overHttp2(url: string, wire: Wire): Call {
  const session = connectHttp2(url, { ca: tlsFiles.ca });
  session.on("error", () => undefined);
  onTestFinished(() => {
    session.destroy();
  });
  return async (row, token) => {
    const reply = new Reply(wire, row);
    const { headers, body } = requestFor(wire, row, token);
    const stream = session.request({ ":method": "POST", ":path": row.path, ...headers });
    stream.on("response", (head) => {
      reply.note({ status: head[":status"] ?? 0, headers: head });
    });
    stream.on("trailers", (trailers: Record<string, unknown>) => {
      reply.note({ trailers });
    });
    stream.on("data", (chunk: Buffer) => {
      reply.add(chunk);
    });
    stream.on("end", () => {
      reply.note({ ended: true });
    });
    stream.on("error", (error: Error) => {
      reply.broken(error.message);
    });
    stream.on("close", () => {
      reply.broken("closed");
    });
    stream.end(body);
    const outcome = await reply.outcome();
    stream.close();
    return outcome;
  };
}

function overHttp3(server: Server, wire: Wire): Call {
  const url = `https://127.0.0.1:${server.http3Port ?? 0}`;
  const open = useHttp3Client(url);
  return async (row, token) => {
    const reply = new Reply(wire, row);
    const { headers, body }: WireRequest = requestFor(wire, row, token);
    const receiver: ResponseReceiver = {
      onHead: (status, header) => {
        reply.note({ status, headers: Object.fromEntries(header) });
      },
      onChunk: (chunk) => {
        reply.add(chunk.slice());
      },
      onEnd: (trailer) => {
        reply.note({ ended: true, trailers: Object.fromEntries(trailer) });
      },
      onError: (error) => {
        reply.broken(error.message);
      },
      onDrain: () => undefined,
    };
    const exchange = await open({ method: "POST", url: `${url}${row.path}`, header: new Headers(headers) }, receiver);
    exchange.write([body], () => undefined);
    exchange.end();
    const outcome = await reply.outcome();
    exchange.reset("canceled");
    return outcome;
  };
}

async function useRecord(server: Server): Promise<void> {
  const client = createSluiceClient({ url: server.url, token: "admin", ca: tlsFiles.ca });
  await client.data.append("logs/a", [{ data: "hello" }], { createIfMissing: true });
  await client.close();
}

/** Whatever an outcome is that is not as the table says. */
async function mismatches(call: Call, rows: readonly AccessRow[]): Promise<string[]> {
  const cells = rows.flatMap((row) => everyToken.map((token) => ({ row, token })));
  const found: string[] = [];
  const next = cells.values();
  const work = async (): Promise<void> => {
    for (const { row, token } of next) {
      const mismatch = mismatchOf(row, token, await call(row, token));
      if (mismatch !== undefined) found.push(mismatch);
    }
  };
  await Promise.all(Array.from({ length: 10 }, work));
  return found.sort();
}

/** Every RPC and stream, by the names that the server itself gives its services, so that none is left out. */
it("the table has every RPC of the server", async () => {
  const call = await fetch(new URL("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", clear.url), {
    method: "POST",
    headers: { "content-type": "application/connect+json" },
    body: new Uint8Array(requestFor("connect", { ...reflectionRow, messages: [{ listServices: "" }] }, "none").body),
  });
  const text = await call.text();
  const services = [...text.matchAll(/"name":"([\w.]+)"/g)].map(([, name]) => name ?? "");
  expect(services.length).toBeGreaterThan(6);
  for (const service of services) {
    const inTable = new Set(accessTable.filter(({ path }) => path.startsWith(`/${service}/`)).map(({ path }) => path));
    expect(inTable.size, service).toBe(methodsOf[service] ?? 1);
  }
});

/** How many RPCs each service has that has more than one. */
const methodsOf: Record<string, number> = {
  "greet.v1.GreetService": GreetService.methods.length,
  "data.v1.DataService": DataService.methods.length,
  "grpc.health.v1.Health": Health.methods.length,
  "tally.v1.TallyService": 4,
  "tally.v1.OpsService": 4,
  "tally.v1.ReportService": 4,
};
const reflectionRow: AccessRow = { name: "", path: "", shape: "stream", messages: [], allowed: [] };

describe("every RPC and stream, with every scope, is served or refused as the table says", () => {
  // A stream is not taken over over HTTP/1.1, whoever asks.
  const rpcs = accessTable.filter(({ shape }) => shape !== "take");
  /** The stream that the rows are about, with a record, made through a door that is not one of those. */
  beforeAll(async () => {
    for (const server of [clear, secure]) {
      await useRecord(server);
    }
  });

  it("over HTTP/1.1", async () => {
    expect(await mismatches(overHttp1(clear.url, "connect"), rpcs)).toEqual([]);
  });
  it("over HTTP/1.1, with gRPC-Web", async () => {
    expect(await mismatches(overHttp1(clear.url, "grpc-web"), rpcs)).toEqual([]);
  });
  it("over HTTP/2 in the clear", async () => {
    expect(await mismatches(overHttp2(clear.url, "connect"), accessTable)).toEqual([]);
  });
  it("over HTTP/2 in the clear, with gRPC", async () => {
    expect(await mismatches(overHttp2(clear.url, "grpc"), rpcs)).toEqual([]);
  });
  it("over HTTP/2 with TLS", async () => {
    expect(await mismatches(overHttp2(secure.url, "connect"), accessTable)).toEqual([]);
  });
  it("over HTTP/3", async () => {
    expect(await mismatches(overHttp3(secure, "connect"), accessTable)).toEqual([]);
  });
  it("over HTTP/3, with gRPC", async () => {
    expect(await mismatches(overHttp3(secure, "grpc"), rpcs)).toEqual([]);
  });
});

it("a stream is not taken over over HTTP/1.1, whoever asks", async () => {
  const call = overHttp1(clear.url, "connect");
  for (const row of accessTable.filter(({ shape }) => shape === "take")) {
    expect(await call(row, "admin"), row.name).toBe("http_505");
  }
});

it("services that are not open need a token, and no scope", async () => {
  const rows = accessTable
    .filter(({ path }) => path.startsWith("/grpc."))
    .map((row) => ({ ...row, allowed: row.allowed.filter((token) => token !== "none" && token !== "wrong") }));
  expect(rows).toHaveLength(5);
  expect(await mismatches(overHttp2(closed.url, "connect"), rows)).toEqual([]);
  expect(await mismatches(overHttp1(closed.url, "grpc-web"), rows)).toEqual([]);
});

it("ListStreams shows a token the streams that it may read", async () => {
  const admin = createSluiceClient({ url: clear.url, token: "admin" });
  await admin.data.append("other", [{ data: "x" }], { createIfMissing: true });
  await admin.close();
  const shown: Partial<Record<Token, string[]>> = {
    admin: ["logs/a", "other"],
    readA: ["logs/a"],
    readLogs: ["logs/a"],
    readOther: ["other"],
    readAWriteOther: ["logs/a"],
    readWriteA: ["logs/a"],
  };
  for (const token of Object.keys(tokens) as Token[]) {
    const response = await fetch(new URL("/data.v1.DataService/ListStreams", clear.url), {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
      body: "{}",
    });
    const { streams = [] } = (await response.json()) as { streams?: { name: string }[] };
    expect(
      streams.map(({ name }) => name),
      token,
    ).toEqual(shown[token] ?? []);
  }
});
