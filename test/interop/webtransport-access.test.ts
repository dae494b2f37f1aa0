import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { createSluiceClient } from "../../src/client/index.ts";
import type { Server } from "../../src/compose.ts";
import type { Config } from "../../src/config.ts";
import { accessOptions, accessTable, mismatchOf, outcomeOf, requestFor, tokens } from "../support/access.ts";
import type { AccessRow, Token } from "../support/access.ts";
import { deferred, until, within } from "../support/deadline.ts";
import { tlsFiles } from "../support/http3.ts";
import { startServer } from "../support/server.ts";
import { tokensFileOf } from "../support/tokens.ts";
import { useGoPrograms } from "./support/go.ts";

// Sessions of WebTransport without a browser: who may open one, and what its calls may do.

const program = useGoPrograms("sessionclient");
let dir: string;
let files: Pick<Config, "tlsCert" | "tlsKey">;
let ca: string;
let tokensFile: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "sluice-sessions-"));
  const file = (name: string): string => join(dir, name);
  files = { tlsCert: file("cert.pem"), tlsKey: file("key.pem") };
  ca = file("ca.pem");
  tokensFile = file("tokens.json");
  await Promise.all([
    writeFile(file("cert.pem"), tlsFiles.cert),
    writeFile(file("key.pem"), tlsFiles.key),
    writeFile(ca, tlsFiles.ca),
    writeFile(tokensFile, tokensFileOf(tokens)),
  ]);
});
afterAll(() => rm(dir, { recursive: true }));

interface Session {
  readonly authority?: string;
  readonly origin?: string;
  readonly path?: string;
  readonly token?: string;
  readonly streams?: readonly { readonly bytes: Buffer; readonly held?: Buffer; readonly until?: string }[];
}

interface Outcome {
  readonly status: number;
  /** Of the first message. */
  readonly first: string;
  readonly streams: readonly { readonly bytes: Buffer; readonly ended: boolean; readonly error: string }[];
}

const waitMs = 30_000;

/** Opens sessions, one after the other, each on a connection of its own. `onHeld` is awaited before held bytes are sent. */
function useSessions(server: Server): (session: Session, onHeld?: () => Promise<void>) => Promise<Outcome> {
  const url = `https://127.0.0.1:${server.http3Port ?? 0}`;
  const child = spawn(program("sessionclient"), ["-ca", ca, url], { stdio: ["pipe", "pipe", "inherit"] });
  onTestFinished(() => {
    child.kill();
  });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const line = async (): Promise<string> => {
    const next = await within(waitMs, "the client's line", lines.next());
    if (next.done === true) throw new Error("the client has ended");
    return next.value;
  };
  return async ({ token = "admin", path = "/webtransport", streams = [], ...session }, onHeld) => {
    const header = token === "none" ? [] : [["authorization", `Bearer ${token}`]];
    const asked = {
      ...session,
      path,
      first: frame({ version: 1, header }).toString("base64"),
      streams: streams.map(({ bytes, held, until: pattern }) => ({
        bytes: bytes.toString("base64"),
        ...(held === undefined ? {} : { held: held.toString("base64") }),
        until: pattern ?? "",
      })),
    };
    child.stdin.write(`${JSON.stringify(asked)}\n`);
    let found = await line();
    if (found === "held") {
      await onHeld?.();
      child.stdin.write("!\n");
      found = await line();
    }
    const {
      status,
      first,
      streams: answers,
    } = JSON.parse(found) as {
      status: number;
      first: string | null;
      streams: { bytes: string | null; ended: boolean; error: string }[];
    };
    return {
      status,
      first: Buffer.from(first ?? "", "base64").toString(),
      streams: answers.map((answer) => ({ ...answer, bytes: Buffer.from(answer.bytes ?? "", "base64") })),
    };
  };
}

/** The head of a stream: docs/http3.md. */
function frame(head: unknown): Buffer {
  const payload = Buffer.from(JSON.stringify(head));
  const prefix = Buffer.from([0x40, 0, 0, 0, 0]);
  prefix.writeUInt32BE(payload.byteLength, 1);
  return Buffer.concat([prefix, payload]);
}

/** A call of the table; with a token, it is the call's own. */
function callOf(row: AccessRow, token: Token | undefined): Buffer {
  const { headers, body } = requestFor("connect", row, token ?? "none");
  const { te: _, ...rest } = headers;
  return Buffer.concat([frame({ method: "POST", path: row.path, header: Object.entries(rest) }), body]);
}

/** What has come of it. */
function resultOf(row: AccessRow, { bytes, ended, error }: Outcome["streams"][number]): string {
  if (bytes.byteLength < 5) return `broken off: ${error}`;
  const end = 5 + bytes.readUInt32BE(1);
  const { status, header } = JSON.parse(bytes.subarray(5, end).toString()) as {
    status: number;
    header: [string, string][];
  };
  const response = { status, headers: Object.fromEntries(header), trailers: {}, chunks: [bytes.subarray(end)], ended };
  return outcomeOf("connect", row, response) ?? `unknown: ${bytes.toString("latin1")} ${error}`;
}

/** What of a call without an end is enough. */
const enough = '"status":\\d+.*("batch"|SERVING|listServicesResponse|"n":1)';
const untilOf = ({ shape }: AccessRow): string => ({ take: '"status":\\d', stream: enough, unary: "" })[shape];

describe("calls on a session", () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer({ ...files, http3: true, tokensFile }, accessOptions);
    const client = createSluiceClient({ url: server.url, token: "admin", ca: tlsFiles.ca });
    await client.data.append("logs/a", [{ data: "hello" }], { createIfMissing: true });
    await client.close();
  });
  afterAll(() => server.close());

  it("may do what the table says of the session's token", async () => {
    const open = useSessions(server);
    const found: string[] = [];
    for (const token of Object.keys(tokens) as Token[]) {
      const streams = accessTable.map((row) => ({ bytes: callOf(row, undefined), until: untilOf(row) }));
      const outcome = await open({ token, streams });
      expect(outcome.first, token).toContain('"status":200');
      for (const [i, row] of accessTable.entries()) {
        const mismatch = mismatchOf(row, token, resultOf(row, outcome.streams[i] ?? fail()));
        if (mismatch !== undefined) found.push(mismatch);
      }
    }
    expect(found).toEqual([]);
  });

  it("may do what the table says of their own token, if they bring one", async () => {
    const open = useSessions(server);
    const found: string[] = [];
    for (const token of [...(Object.keys(tokens) as Token[]), "wrong" as const]) {
      // What is open needs no token, and is not told one.
      const rows = accessTable.filter(({ path }) => !path.startsWith("/grpc."));
      const streams = rows.map((row) => ({ bytes: callOf(row, token), until: untilOf(row) }));
      const outcome = await open({ token: token === "admin" ? "greet" : "admin", streams });
      for (const [i, row] of rows.entries()) {
        const mismatch = mismatchOf(row, token, resultOf(row, outcome.streams[i] ?? fail()));
        if (mismatch !== undefined) found.push(mismatch);
      }
    }
    expect(found).toEqual([]);
  });

  it("are not served without a valid token", async () => {
    const open = useSessions(server);
    for (const token of ["none", "wrong"]) {
      const { first, streams } = await open({
        token,
        streams: accessTable.map((row) => ({ bytes: callOf(row, undefined), until: untilOf(row) })),
      });
      expect(first, token).toMatch(/"status":401.*"unauthenticated"/s);
      for (const { bytes } of streams) expect(bytes.byteLength, token).toBe(0);
    }
  });
});

function fail(): never {
  throw new Error("the client has told less than was asked");
}

describe("a session", () => {
  it("is opened for pages of the server's own origin and those that are listed, and for programs", async () => {
    const server = await startServer({ ...files, http3: true, tokensFile, corsOrigins: ["https://app.example.com"] });
    onTestFinished(() => server.close());
    const open = useSessions(server);
    const own = `127.0.0.1:${server.http3Port ?? 0}`;
    for (const [origin, status] of [
      ["", 200],
      ["https://app.example.com", 200],
      [`https://${own}`, 200],
      ["https://other.example.com", 403],
      ["https://app.example.com.other.example", 403],
      ["http://app.example.com", 403],
      ["https://app.example.com:8443", 403],
      ["https://127.0.0.1", 403],
      ["null", 403],
    ] as const) {
      expect((await open({ origin })).status, origin).toBe(status);
    }
    // Of a host that the server is called by, which is any with a tokens file.
    expect((await open({ origin: "https://rebound.test", authority: "rebound.test" })).status).toBe(200);
    expect((await open({ path: "/elsewhere" })).status).toBe(404);
  });

  it("is opened for any origin with a star", async () => {
    const server = await startServer({ ...files, http3: true, tokensFile, corsOrigins: ["*"] });
    onTestFinished(() => server.close());
    expect((await useSessions(server)({ origin: "https://other.example.com" })).status).toBe(200);
  });

  it("is opened at hosts that are served: a page at another name has an origin of the server's own", async () => {
    const server = await startServer({ ...files, http3: true, allowedHosts: ["sluice.example.com"] });
    onTestFinished(() => server.close());
    const open = useSessions(server);
    const port = server.http3Port ?? 0;
    for (const [authority, status] of [
      [`127.0.0.1:${port}`, 200],
      [`localhost:${port}`, 200],
      [`sluice.example.com:${port}`, 200],
      [`rebound.test:${port}`, 421],
      ["rebound.test", 421],
      [`10.0.0.1:${port}`, 421],
    ] as const) {
      const outcome = await open({ token: "sample", authority, origin: `https://${authority}` });
      expect(outcome.status, authority).toBe(status);
    }
  });

  it("is the user's to take datagrams of with the scope for it, and is closed when its token is not valid any more", async () => {
    const path = join(dir, "sessions.json");
    await writeFile(path, tokensFileOf(tokens));
    const begun: string[] = [];
    const over = deferred<unknown>();
    const server = await startServer(
      { ...files, http3: true, tokensFile: path },
      {
        ...accessOptions,
        webTransportScope: "data:read:logs/a",
        onWebTransportSession: (session, principal) => {
          begun.push(principal.name);
          if (principal.name !== "readOnly") return;
          session.signal.addEventListener("abort", () => {
            over.resolve(session.signal.reason);
          });
        },
      },
    );
    onTestFinished(() => server.close());
    const open = useSessions(server);
    for (const token of Object.keys(tokens)) expect((await open({ token })).first, token).toContain('"status":200');
    expect(begun.sort()).toEqual(["admin", "readA", "readAWriteOther", "readLogs", "readWriteA"]);

    await writeFile(path, tokensFileOf({ ...tokens, readOnly: ["data:read:logs/a"] }));
    await server.reload();
    const row = accessTable.find(({ name }) => name.endsWith("/GreetRepeatedly")) ?? fail();
    const held = { bytes: Buffer.from([0x40]), held: callOf(row, "greet").subarray(1) };
    await open({ token: "readOnly", streams: [held] }, async () => {
      expect(begun).toContain("readOnly");
      await writeFile(path, tokensFileOf(tokens));
      await server.reload();
      await within(waitMs, "the end of the session", over.promise);
    });
  });

  it("gets no new calls past the gate in a drain", async () => {
    const calls: { method: string; code: string }[] = [];
    const write = (text: string): void => {
      const line = JSON.parse(text) as { msg: string; method: string; code: string };
      if (line.msg === "call") calls.push(line);
    };
    const server = await startServer(
      { ...files, http3: true, tokensFile, drainTimeout: 600_000, adminPort: 0 },
      { ...accessOptions, log: pino({ level: "info" }, { write }) },
    );
    const open = useSessions(server);
    // It goes on, so that the drain does.
    const client = createSluiceClient({ url: server.url, token: "admin", ca: tlsFiles.ca });
    const leave = new AbortController();
    const greeted = deferred();
    const going = (async () => {
      const request = { name: "Ada", times: 1000, interval: { seconds: 60n } };
      for await (const _ of client.greet.greetRepeatedly(request, { signal: leave.signal })) greeted.resolve();
    })().catch(() => undefined);
    await within(waitMs, "the call that goes on", greeted.promise);
    const of = (suffix: string): AccessRow => accessTable.find(({ name }) => name.endsWith(suffix)) ?? fail();
    const rows = [of("/GreetRepeatedly"), of("/GreetAll"), of("/tunnel")];
    let closed: Promise<void> | undefined;
    // Their streams are there before the drain, and the rest of their heads comes in it: no listener sees that.
    const outcome = await open(
      {
        streams: rows.map((row) => {
          const bytes = callOf(row, undefined);
          return { bytes: bytes.subarray(0, 8), held: bytes.subarray(8), until: untilOf(row) };
        }),
      },
      async () => {
        const streams = async (): Promise<boolean> =>
          // The session's, and those of the calls.
          /^sluice_http3_streams 4$/m.test(await (await fetch(server.adminUrl ?? "")).text());
        await until(waitMs, "the streams of the calls", streams);
        closed = server.close();
      },
    );
    for (const [i, row] of rows.entries()) {
      const result = resultOf(row, outcome.streams[i] ?? fail());
      expect(result, row.name).toBe(row.shape === "take" ? "http_503" : "unavailable");
    }
    leave.abort();
    await going;
    await client.close();
    await within(waitMs, "the close", closed ?? fail());
    expect(calls.map(({ code }) => code)).toEqual(["unavailable", "unavailable", "unavailable", "canceled"]);
  });
});
