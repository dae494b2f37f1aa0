import { once } from "node:events";
import { connect as connectTcp } from "node:net";
import type { Socket } from "node:net";
import { TLSSocket, connect as connectTls } from "node:tls";
import { it } from "vitest";
import { createHttp3Exchanges } from "../../../src/client/node-http3-exchange.ts";
import { within } from "../../support/deadline.ts";
import { tlsFiles, windows } from "../../support/http3.ts";
import type { Chance } from "./chance.ts";
import { http1Case } from "./http1-case.ts";
import { http2Case } from "./http2-case.ts";
import { http3Case } from "./http3-case.ts";
import { fuzzLane, laneTimeoutMs } from "./lane.ts";

/** How long a connection that the server does not close is left open, in milliseconds. */
const lingerMs = 20;

const lanes = [
  ["HTTP/2, cleartext", false, http2Case],
  ["HTTP/2 over TLS", true, http2Case],
  ["HTTP/1.1, cleartext", false, http1Case],
  ["HTTP/1.1 over TLS", true, http1Case],
] as const;

it.each(lanes)(
  "%s: no sequence of bytes stops the server",
  (name, tls, draw) =>
    fuzzLane(name, { tls }, async (chance, server, number) => {
      const port = Number(new URL(server.url).port);
      const alpn = name.startsWith("HTTP/2") ? "h2" : "http/1.1";
      const socket = tls
        ? connectTls({ port, host: "127.0.0.1", ca: tlsFiles.ca, ALPNProtocols: [alpn], servername: "localhost" })
        : connectTcp(port, "127.0.0.1");
      socket.on("error", () => undefined);
      socket.setNoDelay(true);
      socket.resume();
      const closed = new Promise((resolve) => socket.once("close", resolve));
      const connected = Promise.race([once(socket, tls ? "secureConnect" : "connect"), closed]);
      await within(10_000, `case ${number}: the connection`, connected);
      for (const segment of chance.segments(draw(chance))) {
        if (socket.destroyed) break;
        socket.write(segment);
        // Lets it leave by itself, and now and then lets the server answer first.
        await new Promise(setImmediate);
      }
      await leave(socket, chance, closed);
    }),
  laneTimeoutMs,
);

// Frames that break the rules are in native/tests: they take a client that encrypts.
it(
  "HTTP/3: no sequence of requests and resets stops the server",
  () =>
    fuzzLane("HTTP/3", { tls: true, args: ["--http3"] }, async (chance, server, number) => {
      // UDP has the number that TCP has.
      const made = createHttp3Exchanges(server.url, {
        ...windows,
        pingIntervalMs: 60_000,
        pingTimeoutMs: 60_000,
        tls: { ca: tlsFiles.ca },
      });
      try {
        await within(10_000, `case ${number}`, http3Case(chance, server.url, made.open));
      } finally {
        made.close();
      }
    }),
  laneTimeoutMs,
);

/** Ends the connection in one of the ways in which peers do. */
async function leave(socket: Socket, chance: Chance, closed: Promise<unknown>): Promise<void> {
  const soon = new Promise((resolve) => setTimeout(resolve, lingerMs));
  switch (chance.below(4)) {
    case 0:
      socket.end();
      await Promise.race([closed, soon]);
      break;
    case 1:
      // Node resets no connection beneath TLS.
      if (!(socket instanceof TLSSocket)) socket.resetAndDestroy();
      break;
    case 2:
      break;
    default:
      await Promise.race([closed, soon]);
  }
  socket.destroy();
  await closed;
}
