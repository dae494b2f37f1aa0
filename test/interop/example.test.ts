import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { within } from "../support/deadline.ts";
import { launchChromium } from "./browser.ts";

const root = join(import.meta.dirname, "../..");

let example: ChildProcess;
let url: string;
let browser: Browser;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

beforeAll(async () => {
  example = spawn(process.execPath, ["examples/browser/server.ts", "--port", String(await freePort())], {
    cwd: root,
    stdio: ["ignore", "pipe", "ignore"],
  });
  if (example.stdout === null) throw new Error("the example has no output");
  const [line] = (await within(20_000, "the example's start", once(createInterface(example.stdout), "line"))) as [
    string,
  ];
  url = line.replace("open ", "");
  browser = await launchChromium();
});
afterAll(async () => {
  await browser.close();
  example.kill("SIGTERM");
  if (example.exitCode === null) await within(20_000, "the example's end", once(example, "exit"));
});

async function open(carrier: RegExp, script?: () => void): Promise<Page> {
  const tab = await browser.newPage();
  onTestFinished(() => tab.close());
  if (script !== undefined) await tab.addInitScript(script);
  await tab.goto(url);
  await tab.locator("#carrier", { hasText: carrier }).waitFor();
  return tab;
}

const greetings = {
  unary: "Hello, Ada!\n",
  client: "Hello, Ada and Grace!\n",
  server: "Hello, Ada!\nHello, Ada!\nHello, Ada!\n",
  bidi: "Hello, Ada!\nHello, Grace!\n",
};

describe("the example page", () => {
  it("shows the four shapes", async () => {
    const tab = await open(/^WebTransport$/);
    for (const [shape, expected] of Object.entries(greetings)) {
      await tab.click(`[data-shape=${shape}]`);
      await tab.waitForFunction((text) => document.querySelector("output")?.value === text, expected);
    }
  });

  it("uploads with progress", async () => {
    const tab = await open(/^WebTransport$/);
    await tab.evaluate(() => {
      const values: number[] = [];
      Object.assign(globalThis, { values });
      const progress = document.querySelector("progress");
      new MutationObserver(() => values.push(progress?.value ?? 0)).observe(progress as Node, { attributes: true });
    });
    await tab.click("#upload");
    await tab.locator("#uploaded", { hasText: /^stored 67108864 bytes/ }).waitFor();
    const values = await tab.evaluate(() => (globalThis as unknown as { values: number[] }).values);
    expect(values.at(-1)).toBe(64 * 1024 * 1024);
    expect(new Set(values).size).toBeGreaterThan(10);
    expect(values).toEqual(values.toSorted((a, b) => a - b));
  });

  it("shows where the pointer on another page is", async () => {
    const [one, other] = [await open(/^WebTransport$/), await open(/^WebTransport$/)];
    await one.bringToFront();
    for (const [at, shown] of [
      [0.25, /is at 0\.2\d, 0\.2\d/],
      [0.75, /is at 0\.7\d, 0\.7\d/],
    ] as const) {
      const box = await one.locator("#field").boundingBox();
      if (box === null) throw new Error("there is no field");
      await one.locator("#field").hover({ position: { x: box.width * at, y: box.height * at } });
      await other.locator("#others", { hasText: shown }).waitFor();
    }
  });

  it("goes on over fetch without WebTransport", async () => {
    const tab = await open(/^fetch, because this browser does not have it$/, () => {
      delete (globalThis as { WebTransport?: unknown }).WebTransport;
    });
    await tab.click("[data-shape=server]");
    await tab.waitForFunction((text) => document.querySelector("output")?.value === text, greetings.server);
    await tab.click("[data-shape=bidi]");
    await tab.locator("#greetings", { hasText: /bidi streaming needs WebTransport/ }).waitFor();
  });
});
