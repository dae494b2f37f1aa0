import { create, toBinary } from "@bufbuild/protobuf";
import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { pino } from "pino";
import { describe, expect, it, onTestFinished } from "vitest";
import { GetStreamRequestSchema, ReadRequestSchema } from "../../gen/data/v1/data_pb.ts";
import { GreetRepeatedlyRequestSchema, GreetRequestSchema } from "../../gen/greet/v1/greet_pb.ts";
import type { Server } from "../../src/compose.ts";
import { tempDir } from "../support/cli.ts";
import { until } from "../support/deadline.ts";
import { envelopeOf, envelopesOf } from "../support/envelopes.ts";
import { createRawClient } from "../support/raw-call.ts";
import type { RawAnswer, RawClient } from "../support/raw-call.ts";
import { useRawHttp3Client } from "../support/raw-http3.ts";
import { startServer } from "../support/server.ts";
import { tlsConfig, useTlsFiles } from "../support/streams.ts";

useTlsFiles();

/** By their numbers, as gRPC has them (https://grpc.io/docs/guides/status-codes/#the-full-list-of-status-codes). */
const codeNames =
  "ok canceled unknown invalid_argument deadline_exceeded not_found already_exists permission_denied resource_exhausted failed_precondition aborted out_of_range unimplemented internal unavailable data_loss unauthenticated".split(
    " ",
  );

type Protocol = "connect" | "grpc" | "grpc-web";
type Door = "1.1" | "2" | "3";

/** What a request is made of, before a protocol gives it its form. */
interface Case {
  readonly what: string;
  readonly path: string;
  readonly streaming: boolean;
  readonly payload: Uint8Array;
  readonly code: string;
  /** Bytes that are not what `encoding` says. */
  readonly compressed?: Uint8Array;
  readonly encoding?: string;
  readonly token?: string;
  readonly timeout?: string;
  readonly json?: boolean;
  readonly method?: string;
  readonly contentType?: string;
  /** Of an envelope. Connect's unary calls have none. */
  readonly flags?: number;
  /** The envelope says that it is longer than it is. */
  readonly cutShort?: boolean;
}

const greet = { path: "/greet.v1.GreetService/Greet", streaming: false };
const repeatedly = { path: "/greet.v1.GreetService/GreetRepeatedly", streaming: true };
const getStream = { path: "/data.v1.DataService/GetStream", streaming: false };
const read = { path: "/data.v1.DataService/Read", streaming: true };

const ada = toBinary(GreetRequestSchema, create(GreetRequestSchema, { name: "Ada" }));
const noName = new Uint8Array(0);
const oneAda = toBinary(GreetRepeatedlyRequestSchema, create(GreetRepeatedlyRequestSchema, { name: "Ada", times: 1 }));
const absent = toBinary(GetStreamRequestSchema, create(GetStreamRequestSchema, { name: "absent" }));
const readAbsent = toBinary(ReadRequestSchema, create(ReadRequestSchema, { stream: "absent" }));
const text = (value: string): Uint8Array => Buffer.from(value);
const gzip = gzipSync(Buffer.alloc(1000, "a"));
const brotli = brotliCompressSync(Buffer.alloc(1000, "a"));
/** Groups of an unknown field, each in the one before: wire type 3 of protobuf. */
const deepGroups = Buffer.concat([Buffer.alloc(20_000, 0x7b), Buffer.alloc(20_000, 0x7c)]);

const cases: readonly Case[] = [
  { what: "an answer", ...greet, payload: ada, code: "ok" },
  { what: "an answered stream", ...repeatedly, payload: oneAda, code: "ok" },
  { what: "no token", ...greet, payload: ada, token: "", code: "unauthenticated" },
  { what: "no token for a stream", ...repeatedly, payload: oneAda, token: "", code: "unauthenticated" },
  { what: "a wrong token", ...greet, payload: ada, token: "wrong", code: "unauthenticated" },
  { what: "another's scope", ...getStream, payload: absent, token: "greeter", code: "permission_denied" },
  { what: "another's scope for a stream", ...read, payload: readAbsent, token: "greeter", code: "permission_denied" },
  { what: "a failed handler", ...getStream, payload: absent, code: "not_found" },
  { what: "a failed stream", ...read, payload: readAbsent, code: "not_found" },
  { what: "an invalid message", ...greet, payload: noName, code: "invalid_argument" },
  { what: "an invalid message of a stream", ...repeatedly, payload: noName, code: "invalid_argument" },
  { what: "a timeout that is none", ...greet, payload: ada, timeout: "soon", code: "invalid_argument" },
  {
    what: "a timeout of a stream that is none",
    ...repeatedly,
    payload: ada,
    timeout: "soon",
    code: "invalid_argument",
  },
  { what: "an unknown compression", ...greet, payload: ada, encoding: "zstd", code: "unimplemented" },
  { what: "an unknown compression", ...repeatedly, payload: oneAda, encoding: "zstd", code: "unimplemented" },
  { what: "an unknown codec", ...greet, payload: ada, contentType: "application/x-other", code: "unknown" },
  { what: "an unknown codec for a stream", ...repeatedly, payload: oneAda, contentType: "text/plain", code: "unknown" },
  { what: "PUT", ...greet, payload: ada, method: "PUT", code: "unknown" },
  { what: "PUT for a stream", ...repeatedly, payload: oneAda, method: "PUT", code: "unknown" },
];

/** What a client cannot have meant, in every shape. */
const faults: readonly Case[] = [greet, repeatedly].flatMap((method) => {
  const fault = (what: string, more: Partial<Case>): Case => ({
    what,
    ...method,
    payload: noName,
    code: "invalid_argument",
    ...more,
  });
  return [
    fault("gzip that breaks off", { encoding: "gzip", compressed: gzip.subarray(0, -12) }),
    fault("gzip of which only the head is there", { encoding: "gzip", compressed: gzip.subarray(0, 10) }),
    fault("garbage for gzip", { encoding: "gzip", compressed: text("garbage") }),
    fault("gzip with a wrong checksum", {
      encoding: "gzip",
      compressed: Buffer.concat([gzip.subarray(0, -8), Buffer.alloc(8, 1)]),
    }),
    fault("brotli that breaks off", { encoding: "br", compressed: brotli.subarray(0, -2) }),
    fault("garbage for brotli", { encoding: "br", compressed: text("garbage") }),
    fault("gzip of garbage", { encoding: "gzip", compressed: gzipSync(Buffer.from([0xff, 0xff, 0xff])) }),
    fault("a field that breaks off", { payload: ada.subarray(0, -1) }),
    fault("an illegal tag", { payload: Buffer.from([0x07, 0x01]) }),
    fault("a varint without an end", { payload: Buffer.alloc(20, 0xff) }),
    fault("a string that is not UTF-8", { payload: Buffer.from([0x0a, 0x02, 0xc3, 0x28]) }),
    fault("groups in groups", { payload: deepGroups }),
    fault("a group without an end", { payload: Buffer.from([0x7b]) }),
    fault("JSON that breaks off", { json: true, payload: text('{"name":') }),
    fault("no JSON at all", { json: true, payload: Buffer.from([0xff, 0xfe, 0x00]) }),
    fault("JSON of another type", { json: true, payload: text('{"name":[1]}') }),
    fault("JSON in JSON in JSON", { json: true, payload: text(`{"name":${"[".repeat(50_000)}${"]".repeat(50_000)}}`) }),
  ];
});

/** Which only envelopes can have. */
const envelopeFaults: readonly Case[] = [greet, repeatedly].flatMap((method) => [
  { what: "an envelope that breaks off", ...method, payload: ada, cutShort: true, code: "invalid_argument" },
  // INTERNAL is what gRPC asks for (https://github.com/grpc/grpc/blob/master/doc/compression.md).
  { what: "a compressed envelope without a compression", ...method, payload: ada, flags: 1, code: "internal" },
]);

/** Connect's GET (https://connectrpc.com/docs/protocol/#unary-get-request): the message stands in the query. */
const gets: readonly Case[] = (
  [
    ["an answer to GET", "proto", absent, "", "not_found"],
    ["GET of another's scope", "proto", absent, "", "permission_denied"],
    ["GET without a token", "proto", absent, "", "unauthenticated"],
    ["GET that breaks off", "proto", absent.subarray(0, -1), "", "invalid_argument"],
    ["GET with gzip that breaks off", "proto", gzip.subarray(0, -12), "&compression=gzip", "invalid_argument"],
    ["GET with an unknown compression", "proto", absent, "&compression=zstd", "unimplemented"],
    ["GET with JSON that breaks off", "json", text("{"), "", "invalid_argument"],
    ["GET with an unknown encoding", "other", absent, "", "unknown"],
    ["GET with another base64", "proto", text("!"), "", "invalid_argument"],
  ] as const
).map(([what, encoding, message, more, code]) => {
  const base64 = code === "invalid_argument" && message.byteLength === 1 && encoding === "proto";
  const value = base64 ? "!!!!" : Buffer.from(message).toString("base64url");
  return {
    what,
    path: `${getStream.path}?connect=v1&encoding=${encoding}&base64=1&message=${value}${more}`,
    streaming: false,
    payload: noName,
    method: "GET",
    ...(code === "permission_denied" ? { token: "greeter" } : code === "unauthenticated" ? { token: "" } : {}),
    code,
  };
});

/** The request in the form of the protocol. */
function requestOf(one: Case, protocol: Protocol) {
  const { streaming, payload, compressed, encoding, json = false } = one;
  const enveloped = streaming || protocol !== "connect";
  const codec = json ? "json" : "proto";
  const contentType =
    one.contentType ??
    (protocol === "connect"
      ? `application/${streaming ? "connect+" : ""}${codec}`
      : `application/${protocol}+${codec}`);
  const encodingHeader =
    protocol === "connect" ? (streaming ? "connect-content-encoding" : "content-encoding") : "grpc-encoding";
  const sent = compressed ?? payload;
  const flags = one.flags ?? (compressed === undefined ? 0 : 1);
  const token = one.token ?? "admin";
  return {
    path: one.path,
    ...(one.method === undefined ? {} : { method: one.method }),
    headers: {
      ...(one.method === "GET" ? {} : { "content-type": contentType }),
      ...(token === "" ? {} : { authorization: `Bearer ${token}` }),
      ...(encoding === undefined ? {} : { [encodingHeader]: encoding }),
      ...(one.timeout === undefined
        ? {}
        : { [protocol === "connect" ? "connect-timeout-ms" : "grpc-timeout"]: one.timeout }),
      ...(protocol === "grpc" ? { te: "trailers" } : {}),
    },
    body:
      one.method === "GET"
        ? []
        : [enveloped ? envelopeOf(sent, flags, one.cutShort === true ? sent.byteLength + 5 : undefined) : sent],
  };
}

/** What the client makes of the answer: the name of the code; undefined for an answer of HTTP's alone. */
function codeIn(answer: RawAnswer, protocol: Protocol, streaming: boolean): string | undefined {
  if (protocol !== "connect") {
    const ends = envelopesOf(answer.body).envelopes.filter(({ flags }) => (flags & 0x80) !== 0);
    const inBody = /grpc-status: ?(\d+)/.exec(String(ends[0]?.payload))?.[1];
    const status = answer.trailers["grpc-status"] ?? answer.headers["grpc-status"] ?? inBody;
    if (status === undefined) return undefined;
    return codeNames[Number(status)];
  }
  if (answer.status === 200 && !streaming) return "ok";
  const json = streaming
    ? envelopesOf(answer.body).envelopes.find(({ flags }) => (flags & 2) !== 0)?.payload
    : answer.body;
  if (json === undefined || json.byteLength === 0) return undefined;
  const parsed = JSON.parse(json.toString()) as { code?: string; error?: { code: string } };
  return streaming ? (parsed.error?.code ?? "ok") : parsed.code;
}

interface Observed {
  readonly server: Server;
  readonly calls: Record<string, unknown>[];
  readonly errors: Record<string, unknown>[];
  readonly client: RawClient;
}

async function useObserved(door: Door): Promise<Observed> {
  const calls: Record<string, unknown>[] = [];
  const errors: Record<string, unknown>[] = [];
  const write = (line: string): void => {
    const entry = JSON.parse(line) as Record<string, unknown>;
    if (entry["msg"] === "call") calls.push(entry);
    if (Number(entry["level"]) >= 50) errors.push(entry);
  };
  const tokensFile = join(await tempDir(), "tokens.json");
  const entry = (name: string, scope: string) => ({
    name,
    sha256: createHash("sha256").update(name).digest("hex"),
    scopes: [scope],
  });
  await writeFile(tokensFile, JSON.stringify({ tokens: [entry("admin", "admin"), entry("greeter", "greet")] }));
  const server = await startServer(
    { tokensFile, adminPort: 0, ...(door === "3" ? { ...tlsConfig(), http3: true } : {}) },
    { log: pino({ level: "info" }, { write }) },
  );
  onTestFinished(() => server.close());
  if (door === "3") {
    const url = `https://127.0.0.1:${server.http3Port ?? 0}`;
    return { server, calls, errors, client: useRawHttp3Client(url) };
  }
  const client = createRawClient(server.url, door);
  onTestFinished(() => {
    client.close();
  });
  return { server, calls, errors, client };
}

const doors: readonly (readonly [Door, Protocol])[] = [
  ["1.1", "connect"],
  ["1.1", "grpc-web"],
  ["2", "connect"],
  ["2", "grpc"],
  ["2", "grpc-web"],
  ["3", "connect"],
  ["3", "grpc"],
  ["3", "grpc-web"],
];

describe.each(doors)("over HTTP/%s, %s", (door, protocol) => {
  it("every outcome is logged and counted by the name of its code, which the client gets", async () => {
    const { server, calls, errors, client } = await useObserved(door);
    const inEnvelopes = (one: Case): boolean => protocol !== "connect" || one.streaming;
    const all = [...cases, ...faults, ...envelopeFaults.filter(inEnvelopes), ...(protocol === "connect" ? gets : [])];
    const expected = new Map<string, number>();
    const wrong: string[] = [];
    for (const one of all) {
      const answer = await client.call(requestOf(one, protocol));
      await until(20_000, `the line of ${one.what}`, () => calls.length === [...expected.values()].reduce(sum, 1));
      const logged = calls.at(-1)?.["code"];
      const got = codeIn(answer, protocol, one.streaming);
      // 405 and 415 are answers of HTTP's alone.
      const right = logged === one.code && (got === one.code || (one.code === "unknown" && answer.status > 400));
      if (!right)
        wrong.push(
          `${one.what}, ${one.path}: expected ${one.code}, logged ${String(logged)}, got ${got ?? answer.status}`,
        );
      const label = `${one.path.slice(1).replace(/\?.*/, "")} ${String(logged)}`;
      expected.set(label, (expected.get(label) ?? 0) + 1);
    }
    expect(wrong).toEqual([]);
    // None of it is the server's fault.
    expect(errors).toEqual([]);
    const metrics = await (await fetch(server.adminUrl ?? "")).text();
    const counted = [...metrics.matchAll(/^sluice_calls_total\{method="([^"]+)",.*code="([^"]+)"\} (\d+)$/gm)];
    const sums = new Map<string, number>();
    for (const [, method = "", code = "", count] of counted) {
      sums.set(`${method} ${code}`, (sums.get(`${method} ${code}`) ?? 0) + Number(count));
    }
    expect(sums).toEqual(expected);
  });
});

function sum(a: number, b: number): number {
  return a + b;
}
