import type { Page as Tab } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Server } from "../../src/compose.ts";
import { startServer } from "../support/server.ts";
import { openBrowser } from "./browser.ts";
import type { BrowserOfTest } from "./browser.ts";
import type { Page } from "./page/main.ts";

let browser: BrowserOfTest;
let tab: Tab;
let origin: string;

beforeAll(async () => {
  browser = await openBrowser(undefined, ["--disable-quic"]);
  origin = browser.origin;
  tab = await browser.open("");
});
afterAll(() => browser.close());

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
      // One that was held back would wait an hour for the next.
      expect(await inPage("firstGreeting", lane())).toBe("Hello, Ada!");
      expect(await inPage("greetRepeatedly", lane())).toEqual(Array(5).fill("Hello, Ada!"));
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
