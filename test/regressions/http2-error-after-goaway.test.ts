import { once } from "node:events";
import { connect } from "node:net";
import { expect, it, onTestFinished } from "vitest";
import { closing, until, within } from "../support/deadline.ts";
import { answerPings, frame, frameTypes, headers, preface, request, settings } from "../support/http2-frames.ts";
import { useServer } from "../support/server.ts";

// Node neither destroys such a session nor reads on, and its calls and its place among the connections were never free.
it("an error of a peer that has sent GOAWAY before ends its connection and its calls", async () => {
  const server = await useServer({ adminPort: 0, keepaliveInterval: 100 });
  const metric = async (name: string): Promise<number> => {
    const text = await (await fetch(server.adminUrl ?? "", { headers: { connection: "close" } })).text();
    return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
  };
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
  onTestFinished(() => {
    socket.destroy();
  });
  answerPings(socket);
  await within(10_000, "the connection", once(socket, "connect"));
  const fields = request("/greet.v1.GreetService/GreetEach", [["content-type", "application/grpc"]]);
  socket.write(Buffer.concat([preface, settings(), headers(1, fields)]));
  await until(10_000, "the call", async () => (await metric("sluice_calls_active")) === 1);
  const closed = closing(socket);
  socket.write(Buffer.concat([frame(frameTypes.goaway, 0, 0, Buffer.alloc(8)), frame(frameTypes.continuation, 0, 1)]));
  await within(10_000, "the end of the connection", closed);
  await until(10_000, "the end of the call", async () => (await metric("sluice_calls_active")) === 0);
  expect(await metric("sluice_connections")).toBe(0);
});
