import { existsSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";
import type { Page as Tab } from "playwright-core";
import { createServer } from "vite";
import type { Page } from "../page/main.ts";

const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";

/** A server of the page, and of Sluice's sources in it. */
export interface PageServer {
  readonly origin: string;
  close(): Promise<void>;
}

export async function servePage(): Promise<PageServer> {
  const root = join(import.meta.dirname, "../page");
  const allow = [join(import.meta.dirname, "../../..")];
  const vite = await createServer({
    root,
    configFile: false,
    logLevel: "error",
    server: { host: "127.0.0.1", port: 0, hmr: false, fs: { allow } },
  });
  await vite.listen();
  return { origin: (vite.resolvedUrls?.local[0] ?? "").replace(/\/$/, ""), close: () => vite.close() };
}

/** The page, open in Chromium. */
export interface OpenPage {
  readonly tab: Tab;
  /** Runs one of the page's functions in the page. */
  inPage<K extends keyof Page>(name: K, ...args: Parameters<Page[K]>): Promise<Awaited<ReturnType<Page[K]>>>;
  close(): Promise<void>;
}

export async function openPage(origin: string, flags: readonly string[]): Promise<OpenPage> {
  if (!existsSync(executablePath)) {
    throw new Error(`there is no ${executablePath}: install Debian's chromium, or set CHROMIUM`);
  }
  const browser = await chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...flags,
    ],
  });
  const tab = await (await browser.newContext()).newPage();
  await tab.goto(origin);
  await tab.waitForFunction(() => "page" in globalThis);
  return {
    tab,
    inPage: async (name, ...args) =>
      tab.evaluate(
        ([fn, given]) => {
          const { page } = globalThis as unknown as { page: Record<string, (...args: unknown[]) => unknown> };
          return page[fn as string]?.(...(given as unknown[]));
        },
        [name, args] as const,
      ) as Promise<never>,
    close: () => browser.close(),
  };
}
