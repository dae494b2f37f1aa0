import { createHash, X509Certificate } from "node:crypto";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Server } from "../../src/compose.ts";
import { tlsFiles } from "../support/http3.ts";
import { startServer } from "../support/server.ts";
import { servePages } from "./browser.ts";
import type { PageServer } from "./browser.ts";
import { useCertificateFiles } from "./support/certificates.ts";
import { openPage } from "./support/chromium.ts";
import type { OpenPage } from "./support/chromium.ts";

const files = useCertificateFiles();
/** The version of HTTP of each call, as the server has logged it. */
const versions: string[] = [];

let pages: PageServer;
let server: Server;
let url: string;
let page: OpenPage;

beforeAll(async () => {
  pages = await servePages();
  const lines = {
    write(line: string) {
      const { msg, http } = JSON.parse(line) as { msg: string; http: string };
      if (msg === "call") versions.push(http);
    },
  };
  server = await startServer(
    { http3: true, tlsCert: files.cert, tlsKey: files.key, corsOrigins: [pages.origin] },
    { log: pino({}, lines) },
  );
  url = `https://127.0.0.1:${server.http3Port ?? 0}`;
  const key = new X509Certificate(tlsFiles.cert).publicKey.export({ type: "spki", format: "der" });
  page = await openPage(pages.origin, [
    "--enable-quic",
    // Without a fallback to TCP.
    `--origin-to-force-quic-on=${new URL(url).host}`,
    `--ignore-certificate-errors-spki-list=${createHash("sha256").update(key).digest("base64")}`,
  ]);
});
afterAll(async () => {
  await page.close();
  await server.close();
  await pages.close();
});

describe("Chromium over QUIC", () => {
  it("says itself that it is HTTP/3", async () => {
    const tab = await page.tab.context().newPage();
    // Nothing is there, which is an answer too.
    expect((await tab.goto(url))?.status()).toBe(404);
    const protocol = await tab.evaluate(async () => {
      // What is fetched is noted after its end, when the page has it already.
      const noted = new Promise<PerformanceResourceTiming>((resolve) => {
        const observer = new PerformanceObserver((list) => {
          for (const entry of list.getEntries() as PerformanceResourceTiming[])
            if (entry.name.endsWith("/Greet")) resolve(entry);
        });
        observer.observe({ type: "resource" });
      });
      const answer = await fetch("/greet.v1.GreetService/Greet", { method: "POST" });
      await answer.arrayBuffer();
      const [page] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
      return [page?.nextHopProtocol, (await noted).nextHopProtocol];
    });
    await tab.close();
    expect(protocol).toEqual(["h3", "h3"]);
  });

  for (const protocol of ["connect", "grpc-web"] as const) {
    describe(`a page, over ${protocol}`, () => {
      const lane = () => ({ url, protocol });

      it("greets", async () => {
        expect(await page.inPage("greet", lane())).toBe("Hello, Ada!");
      });

      it("sees streamed greetings as they are made", async () => {
        // One that was held back would wait an hour for the next.
        expect(await page.inPage("firstGreeting", lane())).toBe("Hello, Ada!");
        expect(await page.inPage("greetRepeatedly", lane())).toEqual(Array(5).fill("Hello, Ada!"));
      });

      it("appends, follows, and leaves", async () => {
        expect(await page.inPage("appendAndFollow", lane(), `quic/${protocol}`)).toEqual({
          acked: ["0", "1", "2"],
          read: ["a", "b", "c"],
        });
      });

      it("is told what is wrong", async () => {
        expect(await page.inPage("failure", lane())).toMatch(/\[not_found\] stream "absent" does not exist/);
      });
    });
  }

  it("has been on HTTP/3 in every call", () => {
    expect(versions.length).toBeGreaterThan(8);
    expect(new Set(versions)).toEqual(new Set(["3.0"]));
  });
});
