import { connect } from "node:http2";
import type { ClientHttp2Session, IncomingHttpHeaders } from "node:http2";
import { gzipSync } from "node:zlib";
import { describe, expect, it, onTestFinished } from "vitest";
import { create, toBinary } from "@bufbuild/protobuf";
import { AppendRequestSchema } from "../../gen/data/v1/data_pb.ts";
import { until } from "../support/deadline.ts";
import { envelope, post } from "../support/raw.ts";
import { useServer } from "../support/server.ts";
import type { Server } from "../../src/compose.ts";

// Each call may hold a message of 4 MiB, and 20,000 calls may be open: what they hold together has a limit too.

const MiB = 1024 * 1024;
const budget = 16 * MiB;

async function startSmall() {
  const server = await useServer({ maxRequestMemory: budget, adminPort: 0 });
  return { server, session: openSession(server.url), held: () => metric(server, "sluice_request_memory_bytes") };
}

/** Node's own limit of a session's memory would be met first. */
function openSession(url: string, initialWindowSize = MiB): ClientHttp2Session {
  const session = connect(url, { maxSessionMemory: 1000, settings: { initialWindowSize } });
  session.on("error", () => undefined);
  onTestFinished(() => {
    session.destroy();
  });
  return session;
}

async function metric({ adminUrl }: Server, name: string): Promise<number> {
  const text = await (await fetch(adminUrl ?? "", { headers: { connection: "close" } })).text();
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
}

/** Large requests without an end, until one is refused. Returns its headers and trailers. */
async function exhaust(
  session: ClientHttp2Session,
  path: string,
  headers: Record<string, string>,
  part: Buffer,
): Promise<{ head: IncomingHttpHeaders; trailers: IncomingHttpHeaders; body: Buffer }> {
  const ends: Promise<{ head: IncomingHttpHeaders; trailers: IncomingHttpHeaders; body: Buffer }>[] = [];
  for (let i = 0; i < 40; i++) {
    const call = post(session, path, headers);
    call.stream.write(part);
    call.head.catch(() => undefined);
    ends.push(call.end);
  }
  for (const end of ends) end.catch(() => undefined);
  return Promise.race(ends);
}

const greet = "/greet.v1.GreetService/Greet";
const name = Buffer.from([0x0a, 3, 0x41, 0x64, 0x61]);

/** The beginning of a message of 1 MiB. */
const part = Buffer.concat([Buffer.from([0x0a, 0xfb, 0xff, 0x3f]), Buffer.alloc(MiB - 1024)]);
const grpc = { "content-type": "application/grpc+proto", te: "trailers" };

async function greetAda(url: string): Promise<string> {
  const answer = await fetch(`${url}${greet}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer sample" },
    body: JSON.stringify({ name: "Ada" }),
  });
  return answer.text();
}

describe("calls that would hold more than --max-request-memory", () => {
  it("are refused with the advice to retry, and small ones are served", async () => {
    const { server, session, held } = await startSmall();
    const { trailers } = await exhaust(
      session,
      greet,
      grpc,
      Buffer.concat([Buffer.from([0, 0, 0x20, 0, 0]), part, part]),
    );
    expect(trailers).toMatchObject({ "grpc-status": "8", "retry-after": "1" });
    expect(decodeURIComponent(String(trailers["grpc-message"]))).toContain("--max-request-memory: try again later");
    const details = Buffer.from(String(trailers["grpc-status-details-bin"]), "base64").toString();
    expect(details).toContain("type.googleapis.com/google.rpc.RetryInfo");
    expect(await held()).toBeGreaterThan(budget / 2);
    expect(await held()).toBeLessThanOrEqual(budget);
    expect(await metric(server, "sluice_request_memory_refusals_total")).toBeGreaterThan(0);
    expect(await greetAda(server.url)).toContain("Hello, Ada!");
    session.destroy();
    await until(5000, "the end of all calls", async () => (await held()) === 0);
    expect(await metric(server, "sluice_calls_active")).toBe(0);
  });

  it("are refused by Connect unary with Retry-After", async () => {
    const { server, session, held } = await startSmall();
    const unary = { "content-type": "application/proto" };
    const { head, body } = await exhaust(session, greet, unary, Buffer.concat([part, part]));
    expect(head).toMatchObject({ ":status": 429, "retry-after": "1" });
    expect(JSON.parse(body.toString())).toMatchObject({
      code: "resource_exhausted",
      details: [{ type: "google.rpc.RetryInfo", value: "CgIIAQ" }],
    });
    expect(await greetAda(server.url)).toContain("Hello, Ada!");
    session.destroy();
    await until(5000, "the end of all calls", async () => (await held()) === 0);
  });

  it("are refused as streams", async () => {
    const { server, session, held } = await startSmall();
    const { trailers } = await exhaust(
      session,
      "/greet.v1.GreetService/GreetAll",
      grpc,
      Buffer.concat([Buffer.from([0, 0, 0x20, 0, 0]), part, part]),
    );
    expect(trailers).toMatchObject({ "grpc-status": "8" });
    expect(await greetAda(server.url)).toContain("Hello, Ada!");
    session.destroy();
    await until(5000, "the end of all calls", async () => (await held()) === 0);
  });

  it("are refused while they are inflated", async () => {
    const { server, session, held } = await startSmall();
    const bomb = gzipSync(Buffer.concat([Buffer.from([0x7a, 0xec, 0xff, 0xff, 1]), Buffer.alloc(4 * MiB - 100)]));
    const calls = Array.from({ length: 60 }, () => {
      const call = post(session, greet, { ...grpc, "grpc-encoding": "gzip" });
      call.stream.end(envelope(bomb, 1));
      call.head.catch(() => undefined);
      return call.end;
    });
    const statuses = (await Promise.all(calls)).map(({ trailers }) => trailers["grpc-status"]);
    expect(statuses).toContain("8");
    expect(await greetAda(server.url)).toContain("Hello, Ada!");
    await until(5000, "the end of all calls", async () => (await held()) === 0);
  });

  it("end when their peers do not read the answers", async () => {
    const { server, held } = await startSmall();
    const records = Array.from({ length: 1000 }, () => ({ data: new Uint8Array(1000) }));
    const message = create(AppendRequestSchema, { stream: "large", records, createIfMissing: true });
    const appended = await fetch(`${server.url}/data.v1.DataService/Append`, {
      method: "POST",
      headers: { "content-type": "application/proto", authorization: "Bearer sample" },
      body: toBinary(AppendRequestSchema, message),
    });
    expect(appended.status).toBe(200);
    const session = openSession(server.url, 0);
    const read = envelope(Buffer.from([0x0a, 5, ...Buffer.from("large")]));
    const trailers: IncomingHttpHeaders[] = [];
    for (let i = 0; i < 100; i++) {
      const call = post(session, "/data.v1.DataService/Read", grpc);
      call.stream.on("trailers", (received: IncomingHttpHeaders) => trailers.push(received));
      call.stream.end(read);
      call.head.catch(() => undefined);
      call.end.catch(() => undefined);
    }
    const refusals = (): Promise<number> => metric(server, "sluice_request_memory_refusals_total");
    await until(5000, "a refusal", async () => (await refusals()) > 0);
    expect(await held()).toBeLessThanOrEqual(budget);
    expect(await greetAda(server.url)).toContain("Hello, Ada!");
    session.destroy();
    await until(5000, "the end of all calls", async () => (await held()) === 0);
  });
});

it("a small message is counted for as long as its call", async () => {
  const { session, held } = await startSmall();
  const call = post(session, greet, grpc);
  await until(5000, "the call", async () => (await held()) > 0);
  call.stream.end(envelope(name));
  expect((await call.end).trailers["grpc-status"]).toBe("0");
  await until(5000, "the end of all calls", async () => (await held()) === 0);
});
