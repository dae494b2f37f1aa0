import { createClient } from "@connectrpc/connect";
import { pino } from "pino";
import { describe, expect, it, onTestFinished } from "vitest";
import { DataService } from "../../gen/data/v1/data_pb.ts";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { until } from "../support/deadline.ts";
import { useServer } from "../support/server.ts";
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
