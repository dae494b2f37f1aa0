import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Config } from "../../src/config.ts";
import { within } from "../support/deadline.ts";
import { startServer } from "../support/server.ts";
import { launchChromium } from "./browser.ts";

// DNS rebinding: a page is loaded from a name of its owner's, and then that name stands for 127.0.0.1. What the page asks
// of it is of its own origin, so that no CORS is in the way, and the token that goes with it is well known.

let browser: Browser;
beforeAll(async () => {
  browser = await launchChromium(["--host-resolver-rules=MAP rebound.test 127.0.0.1", "--disable-quic"]);
});
afterAll(() => browser.close());

/** What a page at rebound.test gets when it asks for the streams of a server on this machine, and makes one. */
async function attack(config: Partial<Config>): Promise<{ status: number; text: string }[]> {
  const pages = createServer((_req, res) => {
    res
      .writeHead(200, { "content-type": "text/html", connection: "close" })
      .end("<!doctype html><title>a page</title>");
  });
  await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));
  const { port } = pages.address() as AddressInfo;
  const tab = await browser.newPage();
  await tab.goto(`http://rebound.test:${port}/`);
  // The name has another address now, or the same one another server.
  await within(
    10_000,
    "the end of the pages' server",
    new Promise<void>((resolve) => {
      pages.close(() => {
        resolve();
      });
      pages.closeAllConnections();
    }),
  );
  const server = await startServer({ port, ...config });
  try {
    return await within(
      20_000,
      "the page's calls",
      tab.evaluate(async () => {
        const ask = async (method: string, body: unknown) => {
          const response = await fetch(`/data.v1.DataService/${method}`, {
            method: "POST",
            headers: { "content-type": "application/json", authorization: "Bearer sample" },
            body: JSON.stringify(body),
          });
          return { status: response.status, text: await response.text() };
        };
        return [await ask("CreateStream", { name: "stolen" }), await ask("ListStreams", {})];
      }),
    );
  } finally {
    await tab.close();
    await server.close();
  }
}

it("a page at a name that is made to stand for this machine gets nothing", async () => {
  for (const { status, text } of await attack({})) {
    expect(status).toBe(421);
    expect(text).toMatch(/does not answer to the host .*rebound\.test:\d+.*--allowed-hosts/);
  }
});

it("a page at a name that is listed gets what it asks for, as before", async () => {
  const [created, listed] = await attack({ allowedHosts: ["rebound.test"] });
  expect(created?.status).toBe(200);
  expect(listed?.text).toContain("stolen");
});
