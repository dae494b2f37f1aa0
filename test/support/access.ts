/**
 * Who may call what, written out by hand: the tests of every door read it, and nothing here is taken from the code that
 * they test.
 */
import type { StartOptions } from "../../src/compose.ts";
import { tally, tallyService } from "./tally.ts";

/** The tokens by name, with their scopes. "none" is a call without one, "wrong" is one that the server does not know. */
export const tokens = {
  admin: ["admin"],
  greet: ["greet"],
  readA: ["data:read:logs/a"],
  readLogs: ["data:read:logs/*"],
  readOther: ["data:read:other"],
  writeA: ["data:write:logs/a"],
  writeLogs: ["data:write:logs/*"],
  writeOther: ["data:write:other"],
  readWriteA: ["data:read:logs/a", "data:write:logs/a"],
  readAWriteOther: ["data:read:logs/a", "data:write:other"],
  rpcTally: ["rpc:tally.v1.TallyService"],
  rpcAdd: ["rpc:tally.v1.TallyService/Add"],
  rpcPackage: ["rpc:tally.v1.*"],
  rpcAll: ["rpc:*"],
  rpcReport: ["rpc:tally.v1.ReportService"],
  rpcBuiltIn: ["rpc:greet.v1.GreetService", "rpc:data.v1.DataService"],
  rpcTunnel: ["rpc:/tunnel"],
  rpcPaths: ["rpc:/*"],
} as const;
export type Token = keyof typeof tokens | "none" | "wrong";
export const everyToken = [...Object.keys(tokens), "none", "wrong"] as Token[];
const validTokens = Object.keys(tokens) as Token[];

export interface AccessRow {
  readonly name: string;
  readonly path: string;
  /** "take" is a stream to take over. */
  readonly shape: "unary" | "stream" | "take";
  readonly messages: readonly unknown[];
  readonly allowed: readonly Token[];
}

const greet: readonly Token[] = ["admin", "greet"];
const read: readonly Token[] = ["admin", "readA", "readLogs", "readWriteA", "readAWriteOther"];
const write: readonly Token[] = ["admin", "writeA", "writeLogs", "readWriteA"];
const readAndWrite: readonly Token[] = ["admin", "readWriteA"];
const tallies: readonly Token[] = ["admin", "rpcTally", "rpcPackage", "rpcAll"];
const reports: readonly Token[] = ["admin", "rpcReport", "rpcPackage", "rpcAll"];

function unary(path: string, message: unknown, allowed: readonly Token[]): AccessRow {
  return { name: path, path: `/${path}`, shape: "unary", messages: [message], allowed };
}
function stream(path: string, messages: readonly unknown[], allowed: readonly Token[], name = path): AccessRow {
  return { name, path: `/${path}`, shape: "stream", messages, allowed };
}

const name = { name: "Ada" };
const a = "logs/a";
const batch = { append: { records: [{ data: "aGVsbG8=" }] } };
const data = "data.v1.DataService";

export const accessTable: readonly AccessRow[] = [
  unary("greet.v1.GreetService/Greet", name, greet),
  stream("greet.v1.GreetService/GreetAll", [name], greet),
  stream("greet.v1.GreetService/GreetRepeatedly", [name], greet),
  stream("greet.v1.GreetService/GreetEach", [name], greet),

  unary(`${data}/CreateStream`, { name: a }, write),
  unary(`${data}/GetStream`, { name: a }, read),
  // It shows what its caller may read: see below.
  unary(`${data}/ListStreams`, {}, validTokens),
  unary(`${data}/UpdateStream`, { name: a, retention: { maxRecords: "1000000" } }, write),
  unary(`${data}/TrimStream`, { name: a, beforeSeq: "0" }, write),
  unary(`${data}/SealStream`, { name: a, expectedSeq: "99999" }, write),
  unary(`${data}/ClaimProducer`, { stream: a, producerId: "p" }, write),
  unary(`${data}/Append`, { stream: a, records: [{ data: "aGVsbG8=" }] }, write),
  stream(`${data}/Upload`, [{ open: { stream: a } }, batch], write),
  stream(`${data}/Read`, [{ stream: a }], read),
  stream(`${data}/Read`, [{ stream: a, follow: true }], read, "Read that follows"),
  stream(`${data}/Read`, [{ stream: a, tailOffset: "1" }], read, "Read of the tail"),
  stream(`${data}/Exchange`, [{ open: { stream: a } }, batch], write),
  stream(`${data}/Exchange`, [{ open: { stream: a, read: {} } }], readAndWrite, "Exchange that reads"),
  stream(
    `${data}/Exchange`,
    [{ open: { stream: a, read: { follow: true, tailOffset: "1" } } }, batch],
    readAndWrite,
    "Exchange that follows",
  ),
  unary(`${data}/DeleteStream`, { name: "logs/absent" }, ["admin", "writeLogs"]),

  unary("grpc.health.v1.Health/Check", {}, everyToken),
  unary("grpc.health.v1.Health/List", {}, everyToken),
  stream("grpc.health.v1.Health/Watch", [{}], everyToken),
  stream("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", [{ listServices: "" }], everyToken),
  stream("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", [{ listServices: "" }], everyToken),

  unary("tally.v1.TallyService/Add", {}, [...tallies, "rpcAdd"]),
  stream("tally.v1.TallyService/Sum", [{}], tallies),
  stream("tally.v1.TallyService/Watch", [{}], tallies),
  stream("tally.v1.TallyService/Talk", [{}], tallies),
  // A scope for all its methods.
  unary("tally.v1.OpsService/Add", {}, ["admin"]),
  stream("tally.v1.OpsService/Sum", [{}], ["admin"]),
  stream("tally.v1.OpsService/Watch", [{}], ["admin"]),
  stream("tally.v1.OpsService/Talk", [{}], ["admin"]),
  // A scope for some of its methods.
  unary("tally.v1.ReportService/Add", {}, read),
  stream("tally.v1.ReportService/Sum", [{}], reports),
  stream("tally.v1.ReportService/Watch", [{}], greet),
  stream("tally.v1.ReportService/Talk", [{}], reports),

  {
    name: "/tunnel",
    path: "/tunnel",
    shape: "take",
    messages: [],
    allowed: ["admin", "rpcTunnel", "rpcPaths", "rpcAll"],
  },
  { name: "/logs", path: "/logs", shape: "take", messages: [], allowed: read },
];

/** The services and streams of a user in the table. */
export const accessOptions: Pick<StartOptions, "routes" | "streams"> = {
  routes(router) {
    router.service(tallyService("TallyService"), tally as object);
    router.service(tallyService("OpsService"), tally as object, { scope: "admin" });
    router.service(tallyService("ReportService"), tally as object, {
      scope: { add: `data:read:${a}`, watch: "greet" },
    });
  },
  streams({ onStream }) {
    onStream("/tunnel", (request) => {
      request.accept();
    });
    onStream("/logs", (request) => void request.accept(), { scope: `data:read:${a}` });
  },
};

/** How messages travel: all of them as JSON, so that a test needs no stubs. */
export type Wire = "connect" | "grpc" | "grpc-web";

export interface WireRequest {
  readonly headers: Record<string, string>;
  readonly body: Buffer;
}

function enveloped(messages: readonly unknown[]): Buffer {
  return Buffer.concat(
    messages.map((message) => {
      const json = Buffer.from(JSON.stringify(message));
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(json.byteLength, 1);
      return Buffer.concat([prefix, json]);
    }),
  );
}

export function requestFor(wire: Wire, { shape, messages }: AccessRow, token: Token): WireRequest {
  const authorization: Record<string, string> = token === "none" ? {} : { authorization: `Bearer ${token}` };
  if (shape === "take") return { headers: authorization, body: Buffer.alloc(0) };
  if (wire === "connect" && shape === "unary") {
    const headers = { ...authorization, "content-type": "application/json" };
    return { headers, body: Buffer.from(JSON.stringify(messages[0])) };
  }
  const headers = { ...authorization, "content-type": `application/${wire}+json`, te: "trailers" };
  return { headers, body: enveloped(messages) };
}

/** What has come of a response so far. */
export interface WireResponse {
  status: number;
  headers: Readonly<Record<string, unknown>>;
  trailers: Readonly<Record<string, unknown>>;
  chunks: Uint8Array[];
  ended: boolean;
}

/** "ok", the name of a code, or undefined if it is not known yet. What comes of streams without an end is enough with its first message. */
export function outcomeOf(wire: Wire, { shape }: AccessRow, response: WireResponse): string | undefined {
  const { status, headers, trailers, ended } = response;
  if (status === 0) return undefined;
  const body = Buffer.concat(response.chunks);
  if (shape === "take")
    return { 200: "ok", 401: "unauthenticated", 403: "permission_denied" }[status] ?? `http_${status}`;
  if (wire === "connect" && shape === "unary") {
    if (!ended) return undefined;
    return status === 200 ? "ok" : (JSON.parse(body.toString()) as { code: string }).code;
  }
  if (status !== 200) return `http_${status}`;
  for (let at = 0; at + 5 <= body.byteLength;) {
    const end = at + 5 + body.readUInt32BE(at + 1);
    if (end > body.byteLength) break;
    const flags = body.readUInt8(at);
    const text = body.subarray(at + 5, end).toString();
    // The first message of an Exchange comes before its read has been looked at, if that were looked at late.
    if (flags === 0 && !text.includes('"opened"')) return "ok";
    if (flags === 2) return (JSON.parse(text) as { error?: { code: string } }).error?.code ?? "ok";
    if (flags === 0x80) return grpcCode(/^grpc-status: *(\d+)/im.exec(text)?.[1]);
    at = end;
  }
  if (!ended) return undefined;
  return grpcCode(trailers["grpc-status"] ?? headers["grpc-status"]);
}

/** https://github.com/grpc/grpc/blob/master/doc/statuscodes.md */
const grpcCodes = [
  "ok",
  "canceled",
  "unknown",
  "invalid_argument",
  "deadline_exceeded",
  "not_found",
  "already_exists",
  "permission_denied",
  "resource_exhausted",
  "failed_precondition",
  "aborted",
  "out_of_range",
  "unimplemented",
  "internal",
  "unavailable",
  "data_loss",
  "unauthenticated",
];

function grpcCode(status: unknown): string {
  return grpcCodes[Number(status)] ?? `grpc-status ${String(status)}`;
}

/** Codes of calls that have passed the gate, and found no such stream or one that is in the way. */
const served = ["ok", "not_found", "already_exists", "failed_precondition"];

/** What the table says of a call; undefined if the outcome is as it says. */
export function mismatchOf(row: AccessRow, token: Token, outcome: string): string | undefined {
  const what = `${row.name} with ${token}: ${outcome}`;
  if (row.allowed.includes(token)) return served.includes(outcome) ? undefined : `${what}, should be served`;
  const refusal = token === "none" || token === "wrong" ? "unauthenticated" : "permission_denied";
  return outcome === refusal ? undefined : `${what}, should be ${refusal}`;
}
