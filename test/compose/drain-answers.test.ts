import { request as requestHttp1 } from "node:http";
import { request as requestHttps } from "node:https";
import { connect } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it, onTestFinished } from "vitest";
import { AppendRequestSchema, ReadRequestSchema } from "../../gen/data/v1/data_pb.ts";
import { until, within } from "../support/deadline.ts";
import { envelopeOf } from "../support/envelopes.ts";
import { tlsFiles } from "../support/http3.ts";
import { startServerProcess, useTlsArgs } from "../support/server-process.ts";

const data = "/data.v1.DataService";

function appendOf(client: number, call: number): Uint8Array {
  const text = new TextEncoder().encode(`${client} ${call}`);
  const request = { stream: "s", records: [{ data: text }], createIfMissing: true };
  return toBinary(AppendRequestSchema, create(AppendRequestSchema, request));
}

/** A connection of Node's own client. A gRPC call on it resolves with its status, or with how its stream broke. */
function useGrpc(url: string) {
  const session = connect(url, { ca: tlsFiles.ca });
  session.on("error", () => undefined);
  onTestFinished(() => {
    session.destroy();
  });
  return (path: string, body: Uint8Array): Promise<string> =>
    new Promise((resolve) => {
      const headers = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" };
      const stream = session.request({ ...headers, "acme-token": "sample" });
      let status: unknown;
      const look = (fields: Record<string, unknown>): void => {
        status ??= fields["grpc-status"];
      };
      stream.on("response", look);
      stream.on("trailers", look);
      stream.on("error", () => undefined);
      stream.on("close", () => {
        resolve(typeof status === "string" ? `status ${status}` : `broken with ${stream.rstCode}`);
      });
      stream.resume();
      stream.end(envelopeOf(body));
    });
}

/** HTTP/1.1, a connection a call. A Connect stream resolves with the code in its last envelope, or with how it broke. */
function useConnect(url: string) {
  const secure = url.startsWith("https:");
  return (path: string, body: Uint8Array): Promise<string> =>
    new Promise((resolve) => {
      const headers = { "content-type": "application/connect+proto", "acme-token": "sample" };
      const options = { method: "POST", agent: false, headers, ca: tlsFiles.ca } as const;
      const request = (secure ? requestHttps : requestHttp1)(`${url}${path}`, options, (res) => {
        let text = "";
        res.setEncoding("latin1").on("data", (chunk: string) => (text += chunk));
        res.on("error", () => undefined);
        res.on("close", () => {
          const code = /"code":"(\w+)"/.exec(text)?.[1];
          resolve(res.complete && code !== undefined ? code : `broken after ${text.length} bytes`);
        });
      });
      request.on("error", (error) => {
        resolve(error.message);
      });
      request.end(envelopeOf(body));
    });
}

function count(outcomes: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const outcome of outcomes) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

describe.each([
  ["cleartext", false],
  ["TLS", true],
])("SIGTERM, over %s", (_name, tls) => {
  const start = async () =>
    startServerProcess(["--admin-port", "0", "--max-connections", "5000", ...(tls ? await useTlsArgs() : [])]);

  it("leaves no append without an answer", async () => {
    const server = await start();
    const clients = Array.from({ length: 4 }, () => useGrpc(server.url));
    await Promise.all(clients.map((call, client) => call(`${data}/Append`, appendOf(client, -1))));
    // Many at once, so that answers still wait for the socket when the last call is over.
    const answers = clients.flatMap((call, client) =>
      Array.from({ length: 100 }, (_, i) => call(`${data}/Append`, appendOf(client, i))),
    );
    await until(10_000, "the calls", async () => (await server.metric("sluice_calls_active")) > 0);
    server.kill("SIGTERM");
    const outcomes = await within(20_000, "the answers", Promise.all(answers));
    expect(count(outcomes)).toEqual({ "status 0": 400 });
    expect(await within(20_000, "the end of the server", server.exited)).toBe(0);
  });

  it.each([
    ["gRPC on HTTP/2", 1000, "status 14", useGrpc, 100],
    ["Connect on HTTP/1.1", 500, "unavailable", useConnect, 1],
  ] as const)("ends each of many followers with a status: %s", async (_what, followers, status, use, perConnection) => {
    const server = await start();
    await useGrpc(server.url)(`${data}/Append`, appendOf(0, 0));
    const follow = toBinary(ReadRequestSchema, create(ReadRequestSchema, { stream: "s", follow: true }));
    const calls = Array.from({ length: followers / perConnection }, () => use(server.url)).flatMap((call) =>
      Array.from({ length: perConnection }, () => call(`${data}/Read`, follow)),
    );
    await until(20_000, "the followers", async () => (await server.metric("sluice_calls_active")) === followers);
    server.kill("SIGTERM");
    const outcomes = await within(20_000, "the ends", Promise.all(calls));
    expect(count(outcomes)).toEqual({ [status]: followers });
    expect(await within(20_000, "the end of the server", server.exited)).toBe(0);
  });
});
