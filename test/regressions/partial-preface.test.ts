import { once } from "node:events";
import { connect } from "node:net";
import { expect, it, onTestFinished } from "vitest";
import { within } from "../support/deadline.ts";
import { startServerProcess } from "../support/server-process.ts";

// A connection that stopped within HTTP/2's preface kept the server's event loop busy for ever.
it("a connection that sends half of HTTP/2's preface does not stop the others", async () => {
  const server = await startServerProcess(["--store", "memory"]);
  const { port } = new URL(server.url);
  const half = connect(Number(port), "127.0.0.1");
  onTestFinished(() => {
    half.destroy();
  });
  await once(half, "connect");
  half.write("PRI * HTTP/2");
  for (let i = 0; i < 3; i++) {
    const response = await within(5000, "an answer for another connection", fetch(server.url));
    expect(response.status).toBe(404);
  }
});
