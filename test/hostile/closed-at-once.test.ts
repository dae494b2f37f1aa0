import { once } from "node:events";
import { connect as connectTcp } from "node:net";
import type { Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { describe, expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { closing, until, within } from "../support/deadline.ts";
import { flags, frame, frameTypes, headers, preface, request, resetFrame, settings } from "../support/http2-frames.ts";
import type { Fields } from "../support/http2-frames.ts";
import { tlsFiles } from "../support/http3.ts";
import { startServerProcess, useTlsArgs } from "../support/server-process.ts";
import type { ServerProcess } from "../support/server-process.ts";

// What a server does from an event, on a stream that its peer has closed since: node:http2 throws then, and an error that
// is thrown from an event ends the process. In one segment no luck is needed: all of it is parsed before the first event.

const greet = "/greet.v1.GreetService/Greet";
const greetEach = "/greet.v1.GreetService/GreetEach";

const requests: readonly (readonly [what: string, fields: Fields])[] = [
  ["a request that expects 100-continue", request(greetEach, [["expect", "100-continue"]])],
  ["headers beyond --max-header-bytes", request(greet, [["x-large", "x".repeat(20_000)]])],
  ["an unknown path", request("/nowhere")],
  ["an unknown gRPC method", request("/nowhere", [["content-type", "application/grpc"]])],
  [
    "a CORS preflight",
    request(
      greet,
      [
        ["origin", "https://app.example"],
        ["access-control-request-method", "POST"],
      ],
      "OPTIONS",
    ),
  ],
  ["a unary call", request(greet, [["content-type", "application/json"]])],
  ["a gRPC stream", request(greetEach, [["content-type", "application/grpc"]])],
  ["a Connect stream", request(greetEach, [["content-type", "application/connect+json"]])],
  ["a HEAD request", request(greet, [], "HEAD")],
  ["a content type that nobody knows", request(greet, [["content-type", "text/plain"]])],
  [
    "no token",
    request(greetEach, [
      ["acme-token", ""],
      ["content-type", "application/grpc"],
    ]),
  ],
];

const endings: readonly (readonly [what: string, bytes: (stream: number) => Buffer])[] = [
  ["RST_STREAM(CANCEL)", (stream) => resetFrame(stream, 8)],
  ["RST_STREAM(NO_ERROR)", (stream) => resetFrame(stream, 0)],
  [
    "END_STREAM and RST_STREAM",
    (stream) => Buffer.concat([frame(frameTypes.data, flags.endStream, stream), resetFrame(stream, 8)]),
  ],
  ["GOAWAY", () => frame(frameTypes.goaway, 0, 0, Buffer.alloc(8))],
  ["a frame that breaks the protocol", () => frame(frameTypes.settings, 0, 1)],
  ["nothing more", () => Buffer.alloc(0)],
];

const doors = ["cleartext", "TLS"] as const;

async function open(server: ServerProcess, door: (typeof doors)[number]): Promise<Socket> {
  const port = Number(new URL(server.url).port);
  const socket =
    door === "TLS"
      ? connectTls({ port, host: "127.0.0.1", ca: tlsFiles.ca, ALPNProtocols: ["h2"], servername: "localhost" })
      : connectTcp(port, "127.0.0.1");
  socket.on("error", () => undefined);
  onTestFinished(() => {
    socket.destroy();
  });
  await within(10_000, "the connection", once(socket, door === "TLS" ? "secureConnect" : "connect"));
  return socket;
}

describe.each(doors)("over %s", (door) => {
  it("a stream that its peer closes in the segment that opens it ends nothing else", async () => {
    const tls = door === "TLS" ? await useTlsArgs() : [];
    const server = await startServerProcess([
      "--store",
      "memory",
      "--admin-port",
      "0",
      "--cors-origins",
      "https://app.example",
      // All comes from one address, which is not to be refused for it.
      "--max-reset-rate",
      "1000000",
      ...tls,
    ]);
    const transport = createConnectTransport({
      baseUrl: server.url,
      httpVersion: "2",
      nodeOptions: { ca: tlsFiles.ca },
      interceptors: [
        (next) => (req) => {
          req.header.set("acme-token", "sample");
          return next(req);
        },
      ],
    });
    const client = createClient(GreetService, transport);
    for (const [what, fields] of requests) {
      for (const [ending, bytes] of endings) {
        const streams = [1, 3, 5];
        const socket = await open(server, door);
        const closed = closing(socket);
        socket.write(
          Buffer.concat([preface, settings(), ...streams.flatMap((id) => [headers(id, fields), bytes(id)])]),
        );
        // The half-close comes as soon as the rest.
        socket.end();
        socket.resume();
        const { greeting } = await within(
          10_000,
          `an answer after ${what}, then ${ending}`,
          client.greet({ name: "Ada" }),
        );
        expect(greeting).toBe("Hello, Ada!");
        await within(10_000, `the end of a connection with ${what}, then ${ending}`, closed);
      }
    }
    await until(10_000, "the end of all calls", async () => (await server.metric("sluice_calls_active")) === 0);
    expect(await server.metric("sluice_unexpected_errors_total")).toBe(0);
    expect(server.log).not.toMatch(/"level":[56]0/);
  });
});
