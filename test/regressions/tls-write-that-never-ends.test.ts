import { once } from "node:events";
import { connect } from "node:tls";
import { expect, it, onTestFinished } from "vitest";
import { closing, until, within } from "../support/deadline.ts";
import { headers, preface, request, settings } from "../support/http2-frames.ts";
import { tlsFiles } from "../support/http3.ts";
import { startServerProcess, useTlsArgs } from "../support/server-process.ts";

// Two answers that are complete before their requests are, to a client that has just gone: Node waits for a write that
// never ends, does not read the end of the connection meanwhile, and kept its socket though the session was destroyed.
it("a client that leaves over TLS before its answers keeps no place among the connections", async () => {
  const args = [
    "--store",
    "memory",
    "--admin-port",
    "0",
    "--keepalive-interval",
    "200ms",
    "--keepalive-timeout",
    "500ms",
  ];
  const server = await startServerProcess([...args, ...(await useTlsArgs())]);
  const unanswered = Buffer.concat([1, 3].map((id) => headers(id, request("/nowhere"))));
  for (let i = 0; i < 10; i++) {
    const options = { host: "127.0.0.1", port: Number(new URL(server.url).port), ca: tlsFiles.ca };
    const socket = connect({ ...options, ALPNProtocols: ["h2"], servername: "localhost" });
    socket.on("error", () => undefined);
    onTestFinished(() => {
      socket.destroy();
    });
    await within(10_000, "the connection", once(socket, "secureConnect"));
    socket.write(Buffer.concat([preface, settings(), unanswered]));
    await new Promise(setImmediate);
    const closed = closing(socket);
    socket.destroy();
    await within(10_000, "the end of the client", closed);
  }
  await until(10_000, "the end of the connections", async () => (await server.metric("sluice_connections")) === 0);
  expect(await server.metric("sluice_unexpected_errors_total")).toBe(0);
});
