import { once } from "node:events";
import { connect as connectTcp } from "node:net";
import type { Socket } from "node:net";
import { TLSSocket, connect as connectTls } from "node:tls";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { expect, it } from "vitest";
import { GreetService } from "../../../gen/greet/v1/greet_pb.ts";
import { until, within } from "../../support/deadline.ts";
import { tlsFiles } from "../../support/http3.ts";
import { startServerProcess, useTlsArgs } from "../../support/server-process.ts";
import { Chance } from "./chance.ts";
import { http1Case } from "./http1-case.ts";
import { http2Case } from "./http2-case.ts";

/** How long each lane draws cases, in seconds. Longer by hand: SLUICE_TEST_FUZZ_SECONDS=600 npx vitest run test/hostile/fuzz */
const seconds = Number(process.env["SLUICE_TEST_FUZZ_SECONDS"] ?? 4);
/** Another seed, other cases: SLUICE_TEST_FUZZ_SEED=$RANDOM. */
const seed = Number(process.env["SLUICE_TEST_FUZZ_SEED"] ?? 20_261_125);
/** Only this case: SLUICE_TEST_FUZZ_CASE=1234. */
const only = process.env["SLUICE_TEST_FUZZ_CASE"];

/** Connections at once. */
const width = 8;

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
  async (name, tls, draw) => {
    // All cases come from one address, which is not to be refused for them.
    const args = [
      "--store",
      "memory",
      "--admin-port",
      "0",
      "--keepalive-interval",
      "1s",
      "--cors-origins",
      "https://app.example",
      "--max-reset-rate",
      "1000000",
    ];
    const server = await startServerProcess([...args, ...(tls ? await useTlsArgs() : [])]);
    const alpn = name.startsWith("HTTP/2") ? "h2" : "http/1.1";
    const port = Number(new URL(server.url).port);
    const healthy = createClient(
      GreetService,
      createConnectTransport({
        baseUrl: server.url,
        httpVersion: "2",
        nodeOptions: { ca: tlsFiles.ca },
        interceptors: [
          (next) => (req) => {
            req.header.set("acme-token", "sample");
            return next(req);
          },
        ],
      }),
    );

    async function run(number: number): Promise<void> {
      const chance = new Chance(seed, number);
      const socket = tls
        ? connectTls({ port, host: "127.0.0.1", ca: tlsFiles.ca, ALPNProtocols: [alpn], servername: "localhost" })
        : connectTcp(port, "127.0.0.1");
      socket.on("error", () => undefined);
      socket.setNoDelay(true);
      socket.resume();
      const closed = new Promise((resolve) => socket.once("close", resolve));
      await within(
        10_000,
        `case ${number}: the connection`,
        Promise.race([once(socket, tls ? "secureConnect" : "connect"), closed]),
      );
      for (const segment of chance.segments(draw(chance))) {
        if (socket.destroyed) break;
        socket.write(segment);
        // Lets it leave by itself, and now and then lets the server answer first.
        await new Promise(setImmediate);
      }
      await leave(socket, chance, closed);
    }

    let number = only === undefined ? 0 : Number(only);
    const end = only === undefined ? Date.now() + seconds * 1000 : 0;
    async function work(): Promise<void> {
      do {
        await run(number++);
      } while (Date.now() < end);
    }
    let done = false;
    async function stayHealthy(): Promise<number> {
      let answers = 0;
      while (!done) {
        const { greeting } = await within(
          10_000,
          `an answer (seed ${seed}, about case ${number})`,
          healthy.greet({ name: "Ada" }),
        );
        expect(greeting).toBe("Hello, Ada!");
        answers++;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      return answers;
    }
    const answers = stayHealthy();
    await Promise.race([Promise.all(Array.from({ length: only === undefined ? width : 1 }, work)), answers]);
    done = true;
    expect(await answers).toBeGreaterThan(0);
    console.log(`${name}: ${number} cases`);

    await until(10_000, "the end of all calls", async () => (await server.metric("sluice_calls_active")) === 0);
    // The healthy client's.
    await until(10_000, "the end of all connections", async () => (await server.metric("sluice_connections")) <= 1);
    expect(await server.metric("sluice_unexpected_errors_total")).toBe(0);
    expect(server.log.split("\n").filter((line) => /"level":[56]0/.test(line))).toEqual([]);
    server.kill("SIGTERM");
    expect(await within(20_000, "the end of the process", server.exited)).toBe(0);
  },
  seconds * 1000 + 120_000,
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
