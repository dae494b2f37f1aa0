import { randomBytes } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { resolveConfig } from "../../src/config.ts";
import type { HttpExchange } from "../../src/runtime/exchange.ts";
import { createRuntime } from "../../src/runtime/handler.ts";
import { createGreetService } from "../../src/services/greet.ts";
import { tempDir } from "../support/cli.ts";
import { until, within } from "../support/deadline.ts";
import { Received, useHttp3, useHttp3Client } from "../support/http3.ts";
import { useCertificateFiles } from "./support/certificates.ts";
import { freePort } from "./support/ports.ts";
import { mustRun, runProgram, useProgram } from "./support/programs.ts";

const client = process.env["GTLSCLIENT"] ?? "gtlsclient";
const server = process.env["GTLSSERVER"] ?? "/usr/sbin/gtlsserver";
const files = useCertificateFiles();
const MiB = 1024 * 1024;

beforeAll(async () => {
  await mustRun(client, ["--help"], "install Debian's ngtcp2-client, or set GTLSCLIENT");
  await mustRun(server, ["--help"], "install Debian's ngtcp2-server, or set GTLSSERVER");
});

/** Makes one request, and gives its log and what it has downloaded. */
async function request(url: string, path: string, ...options: string[]): Promise<{ log: string; body: Buffer }> {
  const { hostname, port } = new URL(url);
  const download = await tempDir();
  const common = ["--exit-on-all-streams-close", "--no-quic-dump", "--no-http-dump", `--download=${download}`];
  const { code, stdout, stderr } = await runProgram(client, [...common, ...options, hostname, port, url + path]);
  const log = stdout + stderr;
  if (code !== 0) throw new Error(`${client} ended with ${code}: ${log}`);
  // Under the last part of the path, with the query.
  const [file = ""] = await readdir(download);
  return { log, body: await readFile(join(download, file)) };
}

async function bodyFile(bytes: Uint8Array | string): Promise<string> {
  const file = join(await tempDir(), "body");
  await writeFile(file, bytes);
  return file;
}

/** Greets over HTTP/3. The client can set no header: it has no token, and its bodies get their type here. */
async function useGreetings(): Promise<string> {
  const runtime = createRuntime({
    ...resolveConfig({ port: 0 }),
    interceptors: [],
    routes: (router) => router.service(GreetService, createGreetService()),
  });
  const { url } = await useHttp3((exchange) => {
    if (exchange.method === "POST") exchange.header.set("content-type", "application/json");
    runtime.serve(exchange);
  });
  return url;
}

function echo(exchange: HttpExchange): void {
  exchange.sendHead(200, new Headers());
  exchange.receive({
    onChunk(chunk) {
      if (exchange.write([chunk])) return;
      exchange.pause();
      exchange.onDrain(() => exchange.resume());
    },
    onEnd: () => exchange.end(new Headers({ "x-trailer": "t" })),
  });
}

describe("ngtcp2's client", () => {
  const greet = "/greet.v1.GreetService/Greet";

  it("greets by GET, and by POST with a body", async () => {
    const url = await useGreetings();
    const query = `connect=v1&encoding=json&message=${encodeURIComponent('{"name":"Ada"}')}`;
    const got = await request(url, `${greet}?${query}`);
    expect(JSON.parse(got.body.toString())).toEqual({ greeting: "Hello, Ada!" });
    expect(got.log).toContain("[:status: 200]");
    const posted = await request(url, greet, "-m", "POST", "-d", await bodyFile('{"name":"Grace"}'));
    expect(JSON.parse(posted.body.toString())).toEqual({ greeting: "Hello, Grace!" });
  });

  for (const [what, options] of [
    ["as it is", []],
    ["losing 3 % of the packets each way", ["--tx-loss=0.03", "--rx-loss=0.03"]],
    ["changing its keys in the middle", ["--key-update=5ms"]],
    ["changing its address in the middle", ["--change-local-addr=5ms"]],
    ["behind a NAT that forgets it", ["--change-local-addr=5ms", "--nat-rebinding"]],
  ] as const) {
    it(`gets back 5 MiB that it sends, and the trailers, ${what}`, async () => {
      const { url } = await useHttp3(echo);
      const sent = randomBytes(5 * MiB);
      const { log, body } = await request(url, "/echo", "-m", "POST", "-d", await bodyFile(sent), ...options);
      expect(body.equals(sent)).toBe(true);
      expect(log).toContain("[x-trailer: t]");
    });
  }

  it("is told which versions of QUIC there are", async () => {
    const { url } = await useHttp3(echo);
    const { hostname, port } = new URL(url);
    // Of the versions that are reserved for this (RFC 9000, section 15).
    const { stdout, stderr } = await runProgram(client, ["--version=0x1a2a3a4a", hostname, port, url]);
    expect(stdout + stderr).toContain("VN v=0x00000001");
  });

  it("tries 0-RTT when it comes again, is refused that, and gets its answer once", async () => {
    let requests = 0;
    const { url } = await useHttp3((exchange) => {
      requests++;
      echo(exchange);
    });
    const dir = await tempDir();
    const memory = [`--session-file=${join(dir, "session")}`, `--tp-file=${join(dir, "parameters")}`];
    const again = async (): Promise<string> => {
      const { log, body } = await request(url, "/echo", "-m", "POST", "-d", await bodyFile("x"), ...memory);
      expect(body.toString()).toBe("x");
      return log;
    };
    await again();
    expect(await again()).toContain("Early data was rejected by server");
    expect(requests).toBe(2);
  });
});

describe("ngtcp2's server", () => {
  /** Serves the files of a directory, each under its name, until the end of the test. */
  async function useFiles(content: Readonly<Record<string, Uint8Array>>, ...options: string[]): Promise<string> {
    const dir = await tempDir();
    for (const [name, bytes] of Object.entries(content)) await writeFile(join(dir, name), bytes);
    const port = await freePort();
    const flags = ["--quiet", `--htdocs=${dir}`, ...options];
    useProgram(server, [...flags, "127.0.0.1", String(port), files.key, files.cert]);
    // It says nothing of where it listens; the kernel does.
    const hex = port.toString(16).toUpperCase().padStart(4, "0");
    await until(15_000, "the server's socket", async () =>
      (await readFile("/proc/net/udp", "utf8")).includes(`0100007F:${hex}`),
    );
    return `https://127.0.0.1:${port}`;
  }

  for (const [what, options] of [
    ["as it is", []],
    ["validating addresses by Retry", ["--validate-addr"]],
    ["losing 3 % of the packets each way", ["--tx-loss=0.03", "--rx-loss=0.03"]],
  ] as const) {
    it(`sends us 5 MiB and its trailers, ${what}`, async () => {
      const content = randomBytes(5 * MiB);
      const url = await useFiles({ file: content }, "--send-trailers", ...options);
      const received = new Received();
      const open = useHttp3Client(url);
      const exchange = await open({ method: "GET", url: `${url}/file`, header: new Headers() }, received);
      exchange.end();
      const { status } = await within(15_000, "the head", received.head.promise);
      const trailer = await within(40_000, "the end", received.end.promise);
      expect([status, received.bytes]).toEqual([200, content.byteLength]);
      expect(Buffer.concat(received.chunks).equals(content)).toBe(true);
      expect([...trailer.keys()]).not.toEqual([]);
    });
  }
});
