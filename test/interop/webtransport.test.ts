import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { pino } from "pino";
import type { Page as Tab } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import type { Server } from "../../src/compose.ts";
import type { Config } from "../../src/config.ts";
import type { WebTransportSession } from "../../src/http3/webtransport-session.ts";
import { until } from "../support/deadline.ts";
import { startServer } from "../support/server.ts";
import { openBrowser } from "./browser.ts";
import type { BrowserOfTest } from "./browser.ts";
import type { Page, Where } from "./page/webtransport.ts";

const MiB = 1024 * 1024;
const sluice = join(import.meta.dirname, "../../bin/sluice.js");

let browser: BrowserOfTest;
let tab: Tab;
let dir: string;
let files: Pick<Config, "tlsCert" | "tlsKey">;
let hash: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "sluice-webtransport-"));
  const args = ["cert", "--days", "13", "--host", "127.0.0.1", "--out", dir, "--json"];
  const { stdout } = await promisify(execFile)(process.execPath, [sluice, ...args]);
  const made = JSON.parse(stdout) as { cert: string; key: string; sha256: string };
  files = { tlsCert: made.cert, tlsKey: made.key };
  hash = made.sha256;
  browser = await openBrowser();
  tab = await browser.open("webtransport.html");
});
afterAll(async () => {
  await browser.close();
  await rm(dir, { recursive: true });
});

async function inPage<K extends keyof Page>(
  name: K,
  ...args: Parameters<Page[K]>
): Promise<Awaited<ReturnType<Page[K]>>> {
  return tab.evaluate(
    ([fn, given]) => {
      const { page } = globalThis as unknown as { page: Record<string, (...args: unknown[]) => unknown> };
      return page[fn as string]?.(...(given as unknown[]));
    },
    [name, args] as const,
  ) as Promise<Awaited<ReturnType<Page[K]>>>;
}

/** An envelope with a head. */
function frame(head: unknown): number[] {
  const payload = Buffer.from(JSON.stringify(head));
  return [0x40, 0, 0, payload.length >> 8, payload.length & 0xff, ...payload];
}

/** A unary call of Greet, in Connect's JSON. */
function greetCall(header: readonly (readonly [string, string])[] = []): number[] {
  const fields = [["content-type", "application/json"], ["connect-protocol-version", "1"], ...header];
  const head = frame({ method: "POST", path: "/greet.v1.GreetService/Greet", header: fields });
  return [...head, ...Buffer.from(JSON.stringify({ name: "Ada" }))];
}

interface LoggedCall {
  readonly msg: string;
  readonly method?: string;
  readonly http?: string;
  readonly code?: string;
}

describe("a page in Chromium, over WebTransport", () => {
  const lines: LoggedCall[] = [];
  let server: Server;
  let where: Where;
  beforeAll(async () => {
    const log = pino({ level: "info" }, { write: (line: string) => lines.push(JSON.parse(line) as LoggedCall) });
    const onWebTransportSession = (session: WebTransportSession): void => {
      session.onDatagram((bytes) => session.sendDatagram(Buffer.concat([Buffer.from("echo of "), bytes])));
    };
    server = await startServer(
      { ...files, http3: true, corsOrigins: [browser.origin] },
      { log, onWebTransportSession },
    );
    where = { url: `https://127.0.0.1:${server.http3Port}`, hash };
  });
  afterAll(() => server.close());
  const callsOf = () => lines.filter(({ msg }) => msg === "call");

  it("greets, in each shape", async () => {
    expect(await inPage("carrier", where)).toBe("webtransport");
    expect(await inPage("greet", where)).toBe("Hello, Ada!");
    expect(await inPage("greetAll", where)).toBe("Hello, Ada and Grace!");
    expect(await inPage("greetRepeatedly", where)).toEqual(Array.from({ length: 3 }, () => "Hello, Ada!"));
    expect(await inPage("greetEach", where)).toEqual(["Hello, Ada!", "Hello, Grace!", "Hello, Edsger!"]);
  });

  it("appends and reads on one call", async () => {
    expect(await inPage("exchange", where, "page/exchange")).toEqual({ acked: ["0", "1", "2"], read: ["a", "b", "c"] });
  });

  it("uploads 64 MiB, and sees how far it is", async () => {
    const { stored, progress } = await inPage("upload", where, "page/upload", 64 * MiB);
    expect(stored).toBe(64 * MiB);
    expect(progress.length).toBe(1024);
    expect(progress).toEqual(progress.toSorted((a, b) => a - b));
  });

  it("uploads by client streaming", async () => {
    expect(await inPage("uploadStream", where, "page/stream", 5000)).toBe("5000");
  });

  it("is told what is wrong, with details", async () => {
    expect(await inPage("failure", where)).toMatch(/\[not_found\] stream "absent" does not exist/);
    const { message, details } = await inPage("details", where);
    expect(message).toMatch(/\[not_found\] stream "absent" does not exist/);
    expect(details).toBeGreaterThan(0);
  });

  it("gives up at the deadline", async () => {
    expect(await inPage("deadline", where)).toMatch(/\[deadline_exceeded\]/);
  });

  it("leaves a call, whose handler then ends at once", async () => {
    await inPage("leave", where, "page/leave");
    await until(5000, "the end of the call", () =>
      callsOf().some(({ method, code }) => method?.endsWith("/Read") === true && code === "canceled"),
    );
    expect(callsOf().every(({ http }) => http === "webtransport")).toBe(true);
  });

  // Datagrams may get lost, as others do below.
  it("exchanges datagrams", { retry: 3, timeout: 30_000 }, async () => {
    expect(await inPage("datagram", where, "hello")).toBe("echo of hello");
  });

  it("with a wrong token is told so, and not served", async () => {
    expect(await inPage("failure", { ...where, token: "wrong" })).toMatch(/\[unauthenticated\] invalid token/);
  });

  it("serves no call before the first message, and holds those that overtake it", async () => {
    const opening = frame({ version: 1, header: [["authorization", "Bearer sample"]] });
    const outcome = await inPage("raw", where, [{ bytes: greetCall() }, { bytes: greetCall() }, { bytes: opening }]);
    expect(outcome.closeCode).toBe(0);
    expect(outcome.streams[0]).toMatch(/"status":200.*Hello, Ada!/s);
    expect(outcome.streams[1]).toMatch(/"status":200.*Hello, Ada!/s);
    expect(outcome.streams[2]).toMatch(/"status":200/);
  });

  it("may say with a call what differs from the first message", async () => {
    const opening = frame({ version: 1, header: [["authorization", "Bearer sample"]] });
    const outcome = await inPage("raw", where, [
      { bytes: opening },
      { bytes: greetCall([["authorization", "Bearer other"]]) },
    ]);
    expect(outcome.streams[1]).toMatch(/"status":401.*unauthenticated/s);
  });

  const opening = frame({ version: 1, header: [["authorization", "Bearer sample"]] });
  for (const [what, bytes] of Object.entries({
    "no head": [0, 0, 0, 0, 0],
    "half a head": greetCall().slice(0, 20),
    "a head that is too long": [0x40, 0x7f, 0xff, 0xff, 0xff],
    "a head that is no JSON": [0x40, 0, 0, 0, 1, 0x7b],
    "the head of a response": frame({ status: 200, header: [] }),
    "a path that is none": frame({ method: "POST", path: "x", header: [] }),
    "a header that is none": frame({ method: "POST", path: "/x", header: [["a b", "c"]] }),
    "another first message": opening,
  })) {
    it(`is refused ${what}, and goes on`, async () => {
      const bad = await inPage("rawAfter", where, [...opening], [{ bytes }, { bytes: greetCall() }]);
      // The low byte of H3_MESSAGE_ERROR.
      expect(bad.streams[0]).toBe(0x0e);
      expect(bad.streams[1]).toMatch(/Hello, Ada!/);
    });
  }

  it("finds no method that there is not, and no gRPC", async () => {
    const call = (path: string, type: string) => frame({ method: "POST", path, header: [["content-type", type]] });
    const { streams } = await inPage(
      "rawAfter",
      where,
      [...opening],
      [
        { bytes: call("/absent.Service/Method", "application/json") },
        { bytes: call("/greet.v1.GreetService/Greet", "application/grpc+proto") },
      ],
    );
    expect(streams[0]).toMatch(/"status":404.*unimplemented/s);
    expect(streams[1]).toMatch(/"status":415/);
  });

  it("finds no session at another path", async () => {
    expect(await inPage("raw", { ...where, path: "/elsewhere" }, [])).toMatchObject({ reason: "refused" });
  });
});

describe("a server that takes WebTransport", () => {
  async function start(config: Partial<Config> = {}): Promise<{ server: Server; where: Where }> {
    const server = await startServer({ ...files, http3: true, corsOrigins: [browser.origin], ...config });
    onTestFinished(() => server.close());
    return { server, where: { url: `https://127.0.0.1:${server.http3Port}`, hash } };
  }

  it("refuses pages of other origins", async () => {
    const { where } = await start({ corsOrigins: ["https://app.example.com"] });
    expect(await inPage("raw", where, [])).toMatchObject({ reason: "refused" });
  });

  it("logs and counts the sessions that it refuses by the names of codes", async () => {
    const calls: LoggedCall[] = [];
    const write = (text: string): void => {
      const line = JSON.parse(text) as LoggedCall;
      if (line.msg === "call") calls.push(line);
    };
    const server = await startServer(
      { ...files, http3: true, corsOrigins: [browser.origin], headerTimeout: 300, adminPort: 0 },
      { log: pino({ level: "info" }, { write }) },
    );
    onTestFinished(() => server.close());
    const where = { url: `https://127.0.0.1:${server.http3Port}`, hash };
    await inPage("raw", { ...where, path: "/elsewhere" }, []);
    await inPage("raw", where, [{ bytes: frame({ version: 1, header: [["authorization", "Bearer wrong"]] }) }]);
    await inPage("raw", where, [{ bytes: greetCall(), open: true }]);
    await until(20_000, "three lines", () => calls.length === 3);
    expect(calls.map(({ method, code }) => [method, code])).toEqual([
      ["/webtransport", "not_found"],
      ["/webtransport", "unauthenticated"],
      ["/webtransport", "deadline_exceeded"],
    ]);
    const metrics = await (await fetch(server.adminUrl ?? "")).text();
    for (const code of ["not_found", "unauthenticated", "deadline_exceeded"]) {
      expect(metrics).toContain(`{method="/webtransport",shape="bidi",protocol="raw",code="${code}"} 1`);
    }
  });

  it("closes a session whose first message does not come", async () => {
    const { where } = await start({ headerTimeout: 300 });
    const outcome = await inPage("raw", where, [{ bytes: greetCall(), open: true }]);
    expect(["the session's first message has not come", "lost"]).toContain(outcome.reason);
    expect(String(outcome.streams[0])).not.toMatch(/Hello/);
  });

  // In about every second run of this file no datagram reaches the server before the session is closed as idle. The cause
  // is not known: a retry opens another session.
  it(
    "closes a session that neither calls nor sends datagrams after --connection-idle-timeout, and no other",
    { retry: 3 },
    async () => {
      const server = await startServer(
        // Longer than a busy browser takes from the opening of a session to its first datagram.
        { ...files, http3: true, corsOrigins: [browser.origin], adminPort: 0, connectionIdleTimeout: 2000 },
        {
          onWebTransportSession(session) {
            session.onDatagram((bytes) => session.sendDatagram(bytes));
          },
        },
      );
      onTestFinished(() => server.close());
      const where = { url: `https://127.0.0.1:${server.http3Port}`, hash };
      const idle = async (): Promise<number> => {
        const metrics = await (await fetch(server.adminUrl ?? "")).text();
        return Number(/^sluice_connections_closed_total\{reason="idle"\} (\d+)$/m.exec(metrics)?.[1]);
      };
      expect(await inPage("datagram", where, "used")).toBe("used");
      const opening = frame({ version: 1, header: [["authorization", "Bearer sample"]] });
      expect((await inPage("raw", where, [{ bytes: opening, open: true }])).reason).toMatch(/no more calls|lost/);
      expect(await idle()).toBe(1);
      // On the session of before, which is older than the one that was closed.
      expect(await inPage("datagram", where, "still there")).toBe("still there");
      expect(await idle()).toBe(1);
    },
  );

  it("tells pages to go when it drains, and ends what runs on", async () => {
    const { server, where } = await start();
    const following = inPage("follow", where, "page/drain");
    await until(5000, "the read", async () => (await inPage("follows", where)) > 0);
    await server.close();
    expect(await following).toBe("Unavailable");
    // There is nobody left, over fetch neither.
    expect(await inPage("failure", where)).toMatch(/Failed to fetch/);
  });

  it("stores once what is appended over sessions that end", async () => {
    const { where } = await start({ maxConnectionAge: 200, maxConnectionAgeGrace: 100 });
    const { read, retries } = await inPage("appendOn", where, "page/on", 1000);
    expect(read).toEqual(Array.from({ length: 1000 }, (_, i) => String(i)));
    expect(retries).toBeGreaterThan(0);
  });

  it("gives the calls after a connection's age to another session", { retry: 2 }, async () => {
    const { where } = await start({ maxConnectionAge: 300, maxConnectionAgeGrace: 1000 });
    const end = Date.now() + 2000;
    while (Date.now() < end) expect(await inPage("greetRetrying", where)).toBe("Hello, Ada!");
  });
});

describe("a page without WebTransport", () => {
  it("calls over fetch what fetch can carry, and is told what is missing for the rest", async () => {
    const server = await startServer({ corsOrigins: [browser.origin] });
    onTestFinished(() => server.close());
    const before = tab;
    tab = await browser.open("webtransport.html", () => {
      delete (globalThis as { WebTransport?: unknown }).WebTransport;
    });
    try {
      const where = { url: server.url, hash };
      expect(await inPage("carrier", where)).toBe("fetch: this browser does not have it");
      expect(await inPage("greet", where)).toBe("Hello, Ada!");
      expect(await inPage("greetRepeatedly", where)).toHaveLength(3);
      expect(await inPage("clientStreamingFailure", where)).toMatch(
        /\[unimplemented\] client streaming needs WebTransport.*this browser does not have it/,
      );
      expect(await inPage("bidiFailure", where)).toMatch(/\[unimplemented\] bidi streaming needs WebTransport/);
      expect(await inPage("upload", where, "page/fallback", 1 * MiB)).toMatchObject({ stored: 1 * MiB });
    } finally {
      tab = before;
    }
  });

  it("of the server's, does the same", async () => {
    const server = await startServer({ corsOrigins: [browser.origin] });
    onTestFinished(() => server.close());
    // Nothing listens to UDP there.
    const where = { url: server.url.replace("http:", "https:"), fetchUrl: server.url, hash };
    expect(await inPage("carrier", where)).toMatch(/^fetch: no WebTransport session with https:/);
    expect(await inPage("greet", where)).toBe("Hello, Ada!");
    expect(await inPage("bidiFailure", where)).toMatch(/bidi streaming needs WebTransport.*no WebTransport session/);
  });
});
