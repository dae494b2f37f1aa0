import { createClient } from "@connectrpc/connect";
import { once } from "node:events";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { describe, expect, it, onTestFinished } from "vitest";
import { DataService } from "../../gen/data/v1/data_pb.ts";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import type { StartOptions } from "../../src/compose.ts";
import { until, within } from "../support/deadline.ts";
import { tlsFiles } from "../support/http3.ts";
import { useSession } from "../support/raw.ts";
import { startServer, useServer } from "../support/server.ts";
import { createTransport } from "../support/transports.ts";

const secret = "sample";
const payload = "a payload that nobody else may see";

function collectLog(level: string) {
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level }, { write: (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>) });
  return { log, lines };
}

function useClients(url: string) {
  const made = createTransport({ protocol: "grpc", httpVersion: "2", tls: false }, url);
  onTestFinished(made.close);
  return { greet: createClient(GreetService, made.transport), data: createClient(DataService, made.transport) };
}

describe("the log", () => {
  it("has one line a call, with what an operator asks for, and no token and no payload", async () => {
    const { log, lines } = collectLog("debug");
    const server = await useServer({}, { log });
    const { greet, data } = useClients(server.url);
    const greetings: string[] = [];
    for await (const { greeting } of greet.greetRepeatedly({ name: payload, times: 3 })) greetings.push(greeting);
    await data.getStream({ name: "absent" }).catch(() => undefined);
    await until(5000, "both lines", () => lines.filter((line) => line["msg"] === "call").length === 2);
    const [repeatedly, get] = lines.filter((line) => line["msg"] === "call");
    expect(repeatedly).toMatchObject({
      method: "greet.v1.GreetService/GreetRepeatedly",
      shape: "server",
      protocol: "grpc",
      http: "2.0",
      peer: expect.stringMatching(/^127\.0\.0\.1:\d+$/) as string,
      code: "ok",
      messagesIn: 1,
      messagesOut: 3,
      durationMs: expect.any(Number) as number,
    });
    expect(repeatedly?.["bytesOut"]).toBeGreaterThan(3 * payload.length);
    expect(repeatedly?.["bytesIn"]).toBeGreaterThan(payload.length);
    expect(get).toMatchObject({ method: "data.v1.DataService/GetStream", shape: "unary", code: "not_found" });
    const text = JSON.stringify(lines);
    expect(text).not.toContain(`Bearer ${secret}`);
    expect(text).not.toContain(payload);
    expect(text).toContain("[redacted]");
  });
});

describe("the log of requests", () => {
  it("shows the headers that are listed, none of the others, and no query", async () => {
    const { log, lines } = collectLog("debug");
    const streams: StartOptions["streams"] = ({ onStream }) => {
      onStream("/tunnel", (request) => {
        request.accept();
      });
    };
    const server = await useServer({ corsOrigins: ["https://app.example.com"] }, { log, streams });
    const session = useSession(server.url);
    const headers = {
      "content-type": "application/json",
      "user-agent": "a".repeat(1000),
      "connect-protocol-version": "1",
      origin: "https://app.example.com",
      referer: "https://app.example.com/page?code=hidden-1#hidden-2",
      "x-forwarded-uri": "/?hidden-3",
      "x-forwarded-for": "hidden-4",
      cookie: "hidden-5",
      "x-amzn-oidc-data": "hidden-6",
      "x-pin": "hidden-7",
      forwarded: "for=hidden-8",
      "proxy-authorization": "hidden-9",
      "if-none-match": "hidden-10",
      // C1 controls, which some terminals act on, are allowed in a field's value as obs-text.
      "accept-encoding": "gzip\u009b31m\u0085",
      "acme-token": secret,
    };
    const message = encodeURIComponent(JSON.stringify({ name: "hidden-11" }));
    for (const [path, method, fields] of [
      ["/greet.v1.GreetService/Greet", "POST", headers],
      [`/greet.v1.GreetService/Greet?connect=v1&encoding=json&message=${message}`, "GET", headers],
      ["/tunnel?hidden-12", "POST", headers],
      ["/hidden-path?hidden-13", "GET", headers],
    ] as const) {
      const stream = session.request({ ":path": path, ":method": method, ...fields });
      stream.on("error", () => undefined);
      stream.end(method === "POST" && !path.startsWith("/tunnel") ? '{"name":"hidden-14"}' : undefined);
      await within(10_000, "the answer", once(stream, "response"));
      stream.close();
    }
    await until(5000, "the lines", () => lines.filter(({ msg }) => msg === "request").length === 3);
    await until(5000, "the calls", () => lines.filter(({ msg }) => msg === "call").length === 3);
    const text = JSON.stringify(lines);
    expect(text).not.toMatch(/hidden-\d|[\u007f-\u009f]/);
    for (const line of lines.filter(({ msg }) => msg === "request")) {
      const shown = line["headers"] as Record<string, string>;
      expect(shown).toMatchObject({
        "content-type": "application/json",
        "connect-protocol-version": "1",
        origin: "https://app.example.com",
        referer: "https://app.example.com/page",
        "x-forwarded-for": "[redacted]",
        "acme-token": "[redacted]",
        "accept-encoding": "gzip?31m?",
      });
      expect(shown["user-agent"]?.length).toBeLessThan(240);
    }
  });

  it("warns at the start of files that other users can read or change", async () => {
    const { log, lines } = collectLog("warn");
    const dir = await mkdtemp(join(tmpdir(), "sluice-modes-"));
    onTestFinished(() => rm(dir, { recursive: true }));
    const file = (name: string): string => join(dir, name);
    await writeFile(file("tokens.json"), '{"tokens":[]}');
    await writeFile(file("cert.pem"), tlsFiles.cert);
    await writeFile(file("key.pem"), tlsFiles.key);
    const config = { tokensFile: file("tokens.json"), tlsCert: file("cert.pem"), tlsKey: file("key.pem") };
    const modes = async (tokens: number, key: number): Promise<string[]> => {
      await chmod(file("tokens.json"), tokens);
      await chmod(file("key.pem"), key);
      lines.length = 0;
      await (await startServer({ ...config, store: "lmdb", dataDir: file("data") }, { log })).close();
      return lines.map(({ msg }) => String(msg));
    };
    expect(await modes(0o644, 0o600)).toEqual([]);
    expect(await modes(0o664, 0o644)).toEqual([
      expect.stringMatching(/can read .*key.pem \(mode 0644\): chmod 0600 it/),
      expect.stringMatching(/can change .*tokens.json \(mode 0664\): chmod 0644 it/),
    ]);
  });
});

describe("/metrics", () => {
  it("counts calls, messages and bytes", async () => {
    const server = await useServer({ adminPort: 0 });
    const { greet } = useClients(server.url);
    await greet.greet({ name: "Ada" });
    const read = async (): Promise<string> => (await fetch(server.adminUrl ?? "")).text();
    await until(5000, "the count", async () => /sluice_calls_total\{[^}]*Greet"[^}]*\} 1/.test(await read()));
    const text = await read();
    expect(text).toMatch(/sluice_messages_total\{method="greet.v1.GreetService\/Greet",direction="out"\} 1/);
    expect(text).toMatch(/sluice_connections 1\n/);
    expect(text).toMatch(/sluice_calls_active 0\n/);
    expect(text).toMatch(/process_cpu_seconds_total/);
    const url = new URL(server.adminUrl ?? "");
    expect((await fetch(new URL("/", url))).status).toBe(404);
    expect((await fetch(url, { method: "POST" })).status).toBe(405);
  });

  it("is off unless asked for", async () => {
    const server = await useServer();
    expect(server.adminUrl).toBeUndefined();
    expect((await fetch(new URL("/metrics", server.url))).status).toBe(404);
  });
});
