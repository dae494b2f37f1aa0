import type { Duplex } from "node:stream";
import { describe, expect, it, onTestFinished } from "vitest";
import { resolveConfig } from "../../src/config.ts";
import { HostForm } from "../../src/listen/host-header.ts";
import { listen } from "../../src/listen/listen.ts";
import { nodeHandlers } from "../../src/runtime/node-handlers.ts";
import { dial } from "../hostile/peers.ts";
import { closing, within } from "../support/deadline.ts";
import { tlsFiles } from "../support/http3.ts";
import { flags, frameTypes, headers, preface, settings } from "../support/http2-frames.ts";
import type { Fields } from "../support/http2-frames.ts";

interface Served {
  readonly url: string;
  /** URL and Host of each request that was handed on. */
  readonly seen: string[];
}

/** A listener that answers whatever it is handed with 204, and notes it. */
async function useListener(tls: boolean): Promise<Served> {
  const seen: string[] = [];
  const handlers = nodeHandlers((exchange) => {
    seen.push(`${exchange.method} ${exchange.url} ${exchange.header.get("host") ?? "-"}`);
    exchange.sendHead(204, new Headers());
    exchange.end();
  });
  const listener = await listen(handlers, { ...resolveConfig({ port: 0 }), tls: tls ? tlsFiles : undefined });
  onTestFinished(() => listener.close());
  return { url: listener.url, seen };
}

async function useSocket({ url }: Served, alpn?: string): Promise<Duplex> {
  const socket = await dial(url, "127.0.0.1", alpn);
  onTestFinished(() => {
    socket.destroy();
  });
  return socket;
}

/** What the server says to an HTTP/1.1 request until it closes the connection. */
async function ask1(served: Served, head: string): Promise<string> {
  const socket = await useSocket(served);
  let text = "";
  socket.on("data", (chunk: Buffer) => (text += chunk.toString("latin1")));
  socket.write(`${head}\r\n\r\n`, "latin1");
  await within(10_000, "the end of the connection", closing(socket));
  return text;
}

/** What comes of an HTTP/2 request: its status, or "reset". */
async function ask2(served: Served, fields: Fields): Promise<number | string> {
  const socket = await useSocket(served, "h2");
  const answered = new Promise<number | string>((resolve) => {
    let bytes = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      while (bytes.byteLength >= 9 && bytes.byteLength >= 9 + bytes.readUIntBE(0, 3)) {
        const end = 9 + bytes.readUIntBE(0, 3);
        const type = bytes[3];
        // The first field is the status: 204 and 400 have places in the static table (RFC 7541, appendix A).
        if (type === frameTypes.headers)
          resolve({ 0x89: 204, 0x8c: 400 }[bytes[9] ?? 0] ?? `0x${bytes.toString("hex", 9, 10)}`);
        if (type === frameTypes.rstStream || type === frameTypes.goaway) resolve("reset");
        bytes = bytes.subarray(end);
      }
    });
    socket.on("close", () => {
      resolve("reset");
    });
  });
  socket.write(Buffer.concat([preface, settings(), headers(1, fields, flags.endHeaders | flags.endStream)]));
  return within(10_000, "the answer", answered);
}

const good = ["localhost", "localhost:8080", "127.0.0.1", "[::1]", "[::1]:80", "a-b.example", "x_y", "a%2db", "h:"];

/** Which are no host, and perhaps a port. */
const garbage = [
  "a b",
  "a/b",
  "a?b",
  "a#b",
  "a\\b",
  "<script>",
  "a,b c",
  "user@localhost",
  "localhost:port",
  "localhost:65536",
  "localhost:1:2",
  "::1",
  "[::1",
  "[::1]x",
  ":80",
  "http://localhost",
  "\u00e4",
  '"',
];

/** Node's HTTP/2 client sends IPv6 addresses without brackets. */
const garbageOf2 = garbage.filter((host) => host !== "::1");

describe.each([
  ["cleartext", false],
  ["TLS", true],
])("HTTP/1.1 over %s", (_what, tls) => {
  it("serves a request that names one host", async () => {
    const served = await useListener(tls);
    for (const host of good) {
      expect(await ask1(served, `GET /a?b HTTP/1.1\r\nHost: ${host}\r\nConnection: close`)).toMatch(/^HTTP\/1\.1 204 /);
    }
    expect(served.seen).toHaveLength(good.length);
  });

  it.each([
    ["none", "GET / HTTP/1.1"],
    ["an empty one", "GET / HTTP/1.1\r\nHost:"],
    ["two that differ", "GET / HTTP/1.1\r\nHost: a\r\nHost: b"],
    ["the same twice", "GET / HTTP/1.1\r\nHost: a\r\nhOST: a"],
    ["three", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\nHost: a"],
    ["two, the second one in another case", "POST / HTTP/1.1\r\nhost: a\r\nHOST: b\r\nContent-Length: 0"],
    ["two in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b"],
    ["garbage in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a b"],
    ["none with an absolute target", "GET http://localhost/ HTTP/1.1"],
    ["two with an absolute target", "GET http://localhost/ HTTP/1.1\r\nHost: a\r\nHost: b"],
    ["garbage with an absolute target", "GET http://localhost/ HTTP/1.1\r\nHost: a b"],
    ["one with user information in the target", "GET http://u:p@localhost/ HTTP/1.1\r\nHost: localhost"],
    ["one with no host in the target", "GET http:///path HTTP/1.1\r\nHost: localhost"],
    ["one with another scheme in the target", "GET ftp://localhost/ HTTP/1.1\r\nHost: localhost"],
    ["one with a target that is none", "GET nothing HTTP/1.1\r\nHost: localhost"],
    ...garbage.map((host): [string, string] => [`garbage: ${host}`, `GET / HTTP/1.1\r\nHost: ${host}`]),
  ] satisfies [string, string][])("answers a request 400 whose Host headers are %s", async (_what, head) => {
    const served = await useListener(tls);
    const answer = await ask1(served, head);
    expect(answer).toMatch(/^HTTP\/1\.[01] 400 /);
    expect(answer).not.toMatch(/ 204 /);
    expect(served.seen).toEqual([]);
  });

  it("reads nothing behind a request that it has refused", async () => {
    const served = await useListener(tls);
    const second = "GET /second HTTP/1.1\r\nHost: a";
    expect(await ask1(served, `GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n${second}`)).toMatch(/^HTTP\/1\.1 400 /);
    expect(served.seen).not.toContainEqual(expect.stringContaining("second"));
  });

  it("takes the host of an absolute target for that of the request", async () => {
    const served = await useListener(tls);
    const scheme = tls ? "https" : "http";
    const close = "Connection: close";
    for (const target of ["http://target:81/a?b=c", "HTTP://target:81", "https://target:81?b"]) {
      expect(await ask1(served, `GET ${target} HTTP/1.1\r\nHost: other\r\n${close}`)).toMatch(/^HTTP\/1\.1 204 /);
    }
    expect(served.seen).toEqual([
      `GET ${scheme}://target:81/a?b=c other`,
      `GET ${scheme}://target:81/ other`,
      `GET ${scheme}://target:81/?b other`,
    ]);
  });

  it("survives targets in other forms", async () => {
    const served = await useListener(tls);
    for (const head of [
      "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close",
      "CONNECT a:80 HTTP/1.1\r\nHost: a:80",
      "CONNECT a b HTTP/1.1\r\nHost: a",
      "GET / HTTP/1.0",
    ]) {
      await ask1(served, head);
    }
    expect(await ask1(served, "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close")).toMatch(/^HTTP\/1\.1 204 /);
  });
});

describe.each([
  ["cleartext", false],
  ["TLS", true],
])("HTTP/2 over %s", (_what, tls) => {
  const request = (...hosts: Fields): Fields => [[":method", "GET"], [":scheme", "http"], [":path", "/"], ...hosts];

  it("serves a request that names one host", async () => {
    const served = await useListener(tls);
    for (const host of good) {
      // nghttp2 refuses some of them by itself.
      if (host.includes("%") || host.includes("_")) continue;
      expect([host, await ask2(served, request([":authority", host]))]).toEqual([host, 204]);
    }
    expect(await ask2(served, request([":authority", "::1:8443"]))).toBe(204);
    expect(await ask2(served, request(["host", "alone"]))).toBe(204);
    expect(await ask2(served, request([":authority", "both"], ["host", "both"]))).toBe(204);
  });

  it.each([
    ["none", request()],
    ["an empty :authority", request([":authority", ""])],
    ["an empty host", request(["host", ""])],
    ["two :authority", request([":authority", "a"], [":authority", "a"])],
    ["two hosts", request(["host", "a"], ["host", "a"])],
    ["two hosts and :authority", request([":authority", "a"], ["host", "a"], ["host", "a"])],
    ["an empty host beside :authority", request([":authority", "a"], ["host", ""])],
    ...garbageOf2.map((host) => [`a garbage :authority: ${host}`, request([":authority", host])] as [string, Fields]),
    ...garbageOf2.map((host) => [`a garbage host: ${host}`, request(["host", host])] as [string, Fields]),
  ] as [string, Fields][])("does not serve a request with %s", async (_what, fields) => {
    const served = await useListener(tls);
    expect(await ask2(served, fields)).toBeOneOf([400, "reset"]);
    expect(served.seen).toEqual([]);
    expect(await ask2(served, request([":authority", "a"]))).toBe(204);
  });
});

describe("isHost", () => {
  it.each(good)("%s is one", (host) => {
    expect(new HostForm().isHost(host)).toBe(true);
  });
  it.each(["", ...garbage])("%j is none", (host) => {
    expect(new HostForm().isHost(host)).toBe(false);
  });
});
