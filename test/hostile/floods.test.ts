import { connect } from "node:net";
import { connect as connectTls } from "node:tls";
import { describe, expect, it } from "vitest";
import type { Server } from "../../src/compose.ts";
import { closing, until, within } from "../support/deadline.ts";
import { tlsFiles } from "../support/http3.ts";
import { dial, enter, useCrowd } from "./peers.ts";
import type { Door, Peer } from "./peers.ts";

const refusedByRate = 'sluice_connections_refused_total{reason="address_rate"}';

/** Connects from 127.0.0.1, as all attackers here; undefined if that was refused. */
function intrude(door: Door, server: Server): Promise<Peer | undefined> {
  return enter(door, server).catch(() => undefined);
}

for (const door of ["http2", "http2s", "http3"] as const) {
  describe(`calls that are abandoned over ${door}`, () => {
    it("cost their connection, and then their address, but nobody else", async () => {
      const { server, metric } = await useCrowd(door, { maxResetRate: 2 });
      const healthyDoor = door === "http2" ? "http2" : "http2s";
      const healthy = await enter(healthyDoor, server, "127.0.0.2");
      let connections = 0;
      // It comes back each time, and would go on for ever. The rate is so low that an address whose budget is spent
      // stays refused for seconds, however long an attempt takes on a busy machine.
      while ((await metric(refusedByRate)) === 0 && connections < 100) {
        const attacker = await intrude(door, server);
        connections++;
        for (let i = 0; i < 100 && attacker?.isClosed === false; i++) {
          attacker.abandon();
          if (i % 10 === 0) await new Promise(setImmediate);
        }
        if (attacker !== undefined) {
          // Those below the limit are not closed.
          const asked = attacker.call().catch(() => undefined);
          // Node's client does not always notice that a connection of TLS was reset.
          const gone = until(
            10_000,
            "the end of the connection",
            async () => (await metric("sluice_connections")) <= 1,
          );
          gone.catch(() => undefined);
          await within(10_000, "an answer, or the end of the connection", Promise.race([asked, attacker.closed, gone]));
          attacker.destroy();
        }
        expect(await within(10_000, "a healthy client's answer", healthy.call())).toBe(200);
      }
      // Ten seconds' worth are 20 abandoned calls.
      expect(connections).toBeLessThan(100);
      const another = await enter(healthyDoor, server, "127.0.0.3");
      expect(await another.call()).toBe(200);
      // It is let in again when it has been quiet.
      await until(10_000, "an answer for the address", async () => {
        const back = await intrude(door, server);
        const status = await back?.call().catch(() => undefined);
        back?.destroy();
        return status === 200;
      });
    });

    it("are what clients do: hundreds at once, and a hundred a second, cost nothing", async () => {
      const { server, enter: come, metric } = await useCrowd(door);
      const peer = await come();
      const storm = async (calls: number): Promise<void> => {
        for (let i = 0; i < calls; i++) peer.abandon();
        expect(await within(10_000, "an answer after them", peer.call())).toBe(200);
      };
      await storm(500);
      for (let i = 0; i < 4; i++) await storm(100);
      expect(peer.isClosed).toBe(false);
      expect(await metric('sluice_connections_closed_total{reason="reset_flood"}')).toBe(0);
      const other = await enter(door, server);
      expect(await other.call()).toBe(200);
    });
  });
}

describe("connections without a call", () => {
  for (const [what, door, attempt] of [
    [
      "half a request over http1",
      "http1",
      async (server: Server): Promise<void> => {
        const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
        socket.on("error", () => undefined);
        socket.resume();
        socket.end("POST /greet.v1.GreetService/Greet HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf");
        await closing(socket);
      },
    ],
    [
      "a TLS handshake and no more",
      "http1s",
      async (server: Server): Promise<void> => {
        const socket = connectTls({ port: Number(new URL(server.url).port), host: "127.0.0.1", ca: tlsFiles.ca });
        socket.on("error", () => undefined);
        socket.once("secureConnect", () => socket.end());
        await closing(socket);
      },
    ],
    [
      "a QUIC handshake and no more",
      "http3",
      async (server: Server): Promise<void> => {
        const peer = await intrude("http3", server);
        peer?.destroy();
        await peer?.closed;
      },
    ],
  ] as const) {
    it(`${what}, again and again, are refused by address, and others are served`, async () => {
      const { server, metric } = await useCrowd(door, { maxResetRate: 5 });
      const healthyDoor = door === "http1" ? "http1" : "http1s";
      const healthy = await enter(healthyDoor, server, "127.0.0.2");
      let attempts = 0;
      while ((await metric(refusedByRate)) === 0 && attempts < 500) {
        await within(10_000, "the end of an attempt", attempt(server));
        attempts++;
        if (attempts % 10 === 0) {
          const other = await enter(healthyDoor, server, "127.0.0.3");
          expect(await within(10_000, "a healthy client's answer", other.call())).toBe(200);
          other.destroy();
        }
      }
      expect(attempts).toBeLessThan(500);
      await expect(
        healthy.call().catch(() => enter(healthyDoor, server, "127.0.0.2").then((p) => p.call())),
      ).resolves.toBe(200);
    });
  }

  it("cost nothing once a call on them was served", async () => {
    const { server, metric } = await useCrowd("http1", { maxResetRate: 1 });
    // Ten seconds' worth are ten.
    for (let i = 0; i < 50; i++) {
      const peer = await enter("http1", server);
      expect(await within(10_000, "an answer", peer.call())).toBe(200);
      peer.destroy();
    }
    expect(await metric(refusedByRate)).toBe(0);
  });
});

describe("frames of HTTP/2 that cost an answer or nothing", () => {
  const frame = (type: number, payload: Uint8Array, stream = 0): Buffer => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.byteLength, 0, 3);
    head.writeUInt8(type, 3);
    head.writeUInt32BE(stream, 5);
    return Buffer.concat([head, payload]);
  };
  for (const [what, flood, answered] of [
    ["PING", frame(6, Buffer.alloc(8)), true],
    ["SETTINGS", frame(4, new Uint8Array()), true],
    ["PRIORITY", frame(2, Buffer.from([0, 0, 0, 1, 16]), 3), false],
    ["GOAWAY", frame(7, Buffer.alloc(8)), false],
  ] as const) {
    it(`${what}, without end and without reading, does not keep others waiting`, async () => {
      const { server, enter: come } = await useCrowd("http2");
      const healthy = await come("127.0.0.2");
      const socket = await dial(server.url);
      socket.pause();
      socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
      socket.write(frame(4, new Uint8Array()));
      const many = Buffer.concat(Array.from({ length: 2000 }, () => flood));
      let writable = true;
      // Until the answers fill the network's buffers, and the server has had enough; others it only has to read.
      for (let i = 0; i < (answered ? 2000 : 100) && !socket.destroyed; i++) {
        if (!writable) await Promise.race([closing(socket), new Promise((resolve) => socket.once("drain", resolve))]);
        writable = socket.write(many);
        if (i % 20 === 0) expect(await within(10_000, "a healthy client's answer", healthy.call())).toBe(200);
      }
      if (answered) {
        socket.resume();
        await until(10_000, "the end of the flood's connection", () => socket.destroyed);
      }
      socket.destroy();
      expect(await within(10_000, "a healthy client's answer", healthy.call())).toBe(200);
    });
  }
});
