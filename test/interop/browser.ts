import { existsSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";
import type { Browser, Page as Tab } from "playwright-core";
import { createServer } from "vite";

const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";

export interface BrowserOfTest {
  /** Of the pages. */
  readonly origin: string;
  /** Opens one, and waits until it has put its functions in place. `script` runs before any of its own. */
  open(path: string, script?: () => void): Promise<Tab>;
  close(): Promise<void>;
}

/** A Chromium without a window. Fails if there is none on the machine. */
export function launchChromium(args: readonly string[] = []): Promise<Browser> {
  if (!existsSync(executablePath)) {
    throw new Error(`there is no ${executablePath}: install Debian's chromium, or set CHROMIUM`);
  }
  return chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...args,
    ],
  });
}

/** A server of pages, and of Sluice's sources in them. */
export interface PageServer {
  readonly origin: string;
  close(): Promise<void>;
}

/** Serves the pages in `root`. */
export async function servePages(root = join(import.meta.dirname, "page")): Promise<PageServer> {
  const vite = await createServer({
    root,
    configFile: false,
    logLevel: "error",
    // Whatever it finds, or a connection that it loses, makes it load the page again.
    optimizeDeps: { noDiscovery: true },
    server: { host: "127.0.0.1", port: 0, hmr: false, ws: false, fs: { allow: [join(import.meta.dirname, "../..")] } },
  });
  await vite.listen();
  return { origin: (vite.resolvedUrls?.local[0] ?? "").replace(/\/$/, ""), close: () => vite.close() };
}

/** A Chromium, and a server of pages in `root`. */
export async function openBrowser(root?: string, args: readonly string[] = []): Promise<BrowserOfTest> {
  const browser = await launchChromium(args);
  const pages = await servePages(root);
  return {
    origin: pages.origin,
    async open(path, script) {
      const tab = await browser.newPage();
      if (script !== undefined) await tab.addInitScript(script);
      await tab.goto(`${pages.origin}/${path}`);
      await tab.waitForFunction(() => "page" in globalThis);
      return tab;
    },
    async close() {
      await browser.close();
      await pages.close();
    },
  };
}
