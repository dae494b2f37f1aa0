import { existsSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";
import type { Browser, Page as Tab } from "playwright-core";
import { createServer } from "vite";
import type { ViteDevServer } from "vite";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Server } from "../../src/compose.ts";
import { startServer } from "../support/server.ts";
import type { Page } from "./page/main.ts";

const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";

let vite: ViteDevServer;
let browser: Browser;
let tab: Tab;
let origin: string;

beforeAll(async () => {
  if (!existsSync(executablePath)) {
    throw new Error(`there is no ${executablePath}: install Debian's chromium, or set CHROMIUM`);
  }
  vite = await createServer({
    root: join(import.meta.dirname, "page"),
    configFile: false,
    logLevel: "error",
    server: { host: "127.0.0.1", port: 0, hmr: false, fs: { allow: [join(import.meta.dirname, "../..")] } },
  });
  await vite.listen();
  origin = (vite.resolvedUrls?.local[0] ?? "").replace(/\/$/, "");
  browser = await chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  tab = await browser.newPage();
  await tab.goto(origin);
  await tab.waitForFunction(() => "page" in globalThis);
});
afterAll(async () => {
  await browser.close();
  await vite.close();
});

/** Runs one of the page's functions in the page. */
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

for (const protocol of ["connect", "grpc-web"] as const) {
  describe(`a page in Chromium, over ${protocol}`, () => {
    let server: Server;
    beforeAll(async () => {
      server = await startServer({ corsOrigins: [origin] });
    });
    afterAll(() => server.close());
    const lane = () => ({ url: server.url, protocol });

    it("greets", async () => {
      expect(await inPage("greet", lane())).toBe("Hello, Ada!");
    });

    it("sees streamed greetings as they are made", async () => {
      const { greetings, spreadMs } = await inPage("greetRepeatedly", lane());
      expect(greetings).toEqual(Array.from({ length: 5 }, () => "Hello, Ada!"));
      // Four waits of 100 ms lie between them; a response that was held back would come at once.
      expect(spreadMs).toBeGreaterThan(200);
    });

    it("appends, follows, and leaves", async () => {
      expect(await inPage("appendAndFollow", lane(), "page/s")).toEqual({
        acked: ["0", "1", "2"],
        read: ["a", "b", "c"],
      });
    });

    it("appends with an appender, one batch at a time", async () => {
      expect(await inPage("appender", lane(), "page/t")).toBe("20");
    });

    it("is told what is wrong", async () => {
      expect(await inPage("failure", lane())).toMatch(/\[not_found\] stream "absent" does not exist/);
    });
  });
}

it("a page of an origin that is not listed gets nothing", async () => {
  const server = await startServer({ corsOrigins: ["https://app.example.com"] });
  try {
    expect(await inPage("failure", { url: server.url, protocol: "connect" })).toMatch(/Failed to fetch/);
  } finally {
    await server.close();
  }
});
