import { X509Certificate, createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import type { Page as Tab } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Server } from "../../src/compose.ts";
import type { Config } from "../../src/config.ts";
import { createDevCertificates } from "../../src/listen/dev-certificate.ts";
import { until } from "../support/deadline.ts";
import { startServer } from "../support/server.ts";
import { openBrowser } from "./browser.ts";
import type { BrowserOfTest } from "./browser.ts";
import type { Page, Where } from "./page/webtransport.ts";

const MiB = 1024 * 1024;

let browser: BrowserOfTest;
let tab: Tab;
let dir: string;
let files: Pick<Config, "tlsCert" | "tlsKey">;
let hash: number[];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "sluice-webtransport-"));
  const { cert, key } = await createDevCertificates({ hosts: ["127.0.0.1"], days: 13 });
  files = { tlsCert: join(dir, "cert.pem"), tlsKey: join(dir, "key.pem") };
  await writeFile(join(dir, "cert.pem"), cert);
  await writeFile(join(dir, "key.pem"), key);
  hash = [...createHash("sha256").update(new X509Certificate(cert).raw).digest()];
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
    server = await startServer({ ...files, http3: true, corsOrigins: [browser.origin] }, { log });
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
});
