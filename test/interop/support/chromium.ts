import type { Page as Tab } from "playwright-core";
import { launchChromium } from "../browser.ts";
import type { Page } from "../page/main.ts";

/** The page, open in Chromium. */
export interface OpenPage {
  readonly tab: Tab;
  /** Runs one of the page's functions in the page. */
  inPage<K extends keyof Page>(name: K, ...args: Parameters<Page[K]>): Promise<Awaited<ReturnType<Page[K]>>>;
  close(): Promise<void>;
}

export async function openPage(origin: string, flags: readonly string[]): Promise<OpenPage> {
  const browser = await launchChromium(flags);
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
