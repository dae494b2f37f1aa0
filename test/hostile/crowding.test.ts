import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { closing, until, within } from "../support/deadline.ts";
import { dial, doors, enter, useCrowd } from "./peers.ts";
import type { Peer } from "./peers.ts";

const evicted = 'sluice_connections_closed_total{reason="evicted"}';
const idle = 'sluice_connections_closed_total{reason="idle"}';
const refused = (reason: string) => `sluice_connections_refused_total{reason="${reason}"}`;

for (const door of doors) {
  describe(`a full house over ${door}`, () => {
    it("serves every newcomer; the connection that has been without a call the longest goes first", async () => {
      const { enter, metric } = await useCrowd(door, { maxConnections: 5 });
      const peers: Peer[] = [];
      for (let i = 0; i < 5; i++) peers.push(await enter());
      const [first, second, third] = peers as [Peer, Peer, Peer];
      // Each is later without a call than the ones before it: third, fourth, fifth, first, second.
      expect(await first.call()).toBe(200);
      expect(await second.call()).toBe(200);
      const newcomer = await enter();
      expect(await within(10_000, "the newcomer's answer", newcomer.call())).toBe(200);
      const said = await within(10_000, "the end of the third connection", third.closed);
      // GOAWAY, or CONNECTION_CLOSE, with NO_ERROR.
      if (door.startsWith("http2")) expect(said).toBe("GOAWAY 0");
      if (door === "http3") expect(said).toBe("peer 0x100");
      expect(first.isClosed).toBe(false);
      expect(second.isClosed).toBe(false);
      expect(await metric(evicted)).toBe(1);
      expect(await metric("sluice_connections")).toBe(5);
    });

    it("is not kept by peers that never call: thirty of them do not keep thirty callers out", async () => {
      const { enter, metric } = await useCrowd(door, { maxConnections: 30 });
      const strangers = await Promise.all(Array.from({ length: 30 }, () => enter()));
      const callers: Peer[] = [];
      for (let i = 0; i < 29; i++) {
        const caller = await enter();
        expect(await within(10_000, "a caller's answer", caller.call())).toBe(200);
        callers.push(caller);
      }
      await until(10_000, "the end of the strangers", () => strangers.filter(({ isClosed }) => !isClosed).length <= 1);
      expect(await metric(evicted)).toBe(29);
    });

    it("never closes a connection with a call in flight: the newcomer is refused, and counted", async () => {
      const { server, enter: come, metric } = await useCrowd(door, { maxConnections: 2 });
      const peers = [await come(), await come()];
      const [held] = await Promise.all(peers.map((peer) => peer.hold()));
      if (door === "http1") {
        // There is a way to say it.
        const newcomer = await come();
        expect(await within(10_000, "503", newcomer.call())).toBe(503);
      } else {
        const newcomer = await come().catch(() => undefined);
        await within(10_000, "the end of the newcomer", newcomer?.closed ?? Promise.resolve(""));
      }
      expect(await metric(refused("full"))).toBeGreaterThan(0);
      expect(await metric(evicted)).toBe(0);
      expect(peers.map(({ isClosed }) => isClosed)).toEqual([false, false]);
      // There is room again once one of the calls is over.
      held?.end();
      await until(10_000, "an answer for a newcomer", async () => {
        const newcomer = await enter(door, server).catch(() => undefined);
        const status = await newcomer?.call().catch(() => undefined);
        newcomer?.destroy();
        return status === 200;
      });
      expect(peers[1]?.isClosed).toBe(false);
    });

    it("is not kept by peers that ask for nothing that there is, however often", async () => {
      const { enter: come, metric } = await useCrowd(door, { connectionIdleTimeout: 1500 });
      const peer = await come();
      let asked = 0;
      const asking = (async () => {
        while (!peer.isClosed) {
          await peer.call("/nowhere").catch(() => undefined);
          await peer.call(undefined, "wrong").catch(() => undefined);
          asked++;
          await new Promise(setImmediate);
        }
      })();
      await within(10_000, "the end of the connection", Promise.race([peer.closed, asking]));
      expect(asked).toBeGreaterThan(1);
      expect(await metric(idle)).toBe(1);
    });

    it("closes connections without a first call after --connection-idle-timeout, and no others", async () => {
      const { enter, metric } = await useCrowd(door, { connectionIdleTimeout: 2000 });
      const [caller, stranger, refusedCaller, lost] = await Promise.all([enter(), enter(), enter(), enter()]);
      expect(await caller.call()).toBe(200);
      // Neither a call without a valid token nor one to an unknown path is a call.
      expect(await refusedCaller.call(undefined, "wrong")).toBe(401);
      expect(await lost.call("/nowhere")).toBe(404);
      for (const peer of [stranger, refusedCaller, lost]) await within(10_000, "the end of a connection", peer.closed);
      // HTTP/1.1 has a shorter timeout of its own between two requests.
      if (!door.startsWith("http1")) {
        expect(caller.isClosed).toBe(false);
        expect(await metric(idle)).toBe(3);
        expect(await caller.call()).toBe(200);
      }
    });
  });
}

describe("a full house", () => {
  it("has one account for TCP and QUIC", async () => {
    const { server, metric } = await useCrowd("http3", { maxConnections: 4 });
    const tcp = [await enter("http2s", server), await enter("http2s", server)];
    const quic = [await enter("http3", server), await enter("http3", server)];
    for (const peer of [...tcp, ...quic]) expect(await peer.call()).toBe(200);
    const another = await enter("http3", server);
    expect(await another.call()).toBe(200);
    await within(10_000, "the end of the first connection of TCP", tcp[0]?.closed ?? Promise.resolve(""));
    const third = await enter("http2s", server);
    expect(await third.call()).toBe(200);
    await within(10_000, "the end of the second connection of TCP", tcp[1]?.closed ?? Promise.resolve(""));
    const fourth = await enter("http1s", server);
    expect(await fourth.call()).toBe(200);
    expect(
      await within(10_000, "the end of the first connection of QUIC", quic[0]?.closed ?? Promise.resolve("")),
    ).toBe("peer 0x100");
    expect(await metric(evicted)).toBe(3);
    expect(await metric("sluice_connections")).toBe(4);
  });

  it("is not kept by pings, SETTINGS and windows", async () => {
    const { server, metric } = await useCrowd("http2", { connectionIdleTimeout: 1500 });
    const session = connectHttp2(server.url);
    session.on("error", () => undefined);
    let sent = 0;
    const timer = setInterval(() => {
      // Some time before its "close".
      if (session.destroyed) return;
      session.ping(() => sent++);
      session.settings({ initialWindowSize: 65_535 + sent });
    }, 50);
    onTestFinished(() => {
      clearInterval(timer);
      session.destroy();
    });
    session.once("close", () => {
      clearInterval(timer);
    });
    await within(10_000, "the end of the connection", closing(session));
    expect(sent).toBeGreaterThan(1);
    expect(await metric(idle)).toBe(1);
  });

  it("gives up connections that have not sent a byte, or not finished their handshake, too", async () => {
    for (const door of ["http1", "http1s"] as const) {
      const { server, metric } = await useCrowd(door, { maxConnections: 3 });
      const silent = [];
      for (let i = 0; i < 3; i++) {
        const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
        socket.on("error", () => undefined);
        onTestFinished(() => {
          socket.destroy();
        });
        await once(socket, "connect");
        silent.push(socket);
      }
      const caller = await enter(door, server);
      expect(await caller.call()).toBe(200);
      expect(await metric(evicted)).toBe(1);
    }
  });

  it("closes a peer that does not close after GOAWAY", async () => {
    const { server, metric } = await useCrowd("http2", { maxConnections: 1 });
    const stubborn = await dial(server.url);
    onTestFinished(() => {
      stubborn.destroy();
    });
    stubborn.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    stubborn.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    await within(10_000, "the server's SETTINGS", once(stubborn, "data"));
    // It reads no more, and so never sees that the server has ended.
    stubborn.pause();
    for (let i = 0; i < 3; i++) {
      const caller = await enter("http2", server);
      expect(await caller.call()).toBe(200);
    }
    expect(await metric(evicted)).toBe(3);
    expect(await metric("sluice_connections")).toBe(1);
    stubborn.resume();
    await within(10_000, "the end of the stubborn connection", closing(stubborn));
  });

  it("gives newcomers without a call less time while more than half of the room is taken", async () => {
    const { enter: come, metric } = await useCrowd("http2", { maxConnections: 4, connectionIdleTimeout: 3_600_000 });
    const strangers = [await come(), await come(), await come(), await come()];
    // 10 s each, less than a peer that is silent has otherwise.
    await until(20_000, "the end of two strangers", () => strangers.filter(({ isClosed }) => isClosed).length >= 2);
    expect(strangers.map(({ isClosed }) => isClosed)).toEqual([true, true, false, false]);
    expect(await metric(idle)).toBe(2);
  });
});

describe("--max-connections-per-address", () => {
  it("refuses what is over it, and no other address", async () => {
    const { server, enter: come, metric } = await useCrowd("http2", { maxConnectionsPerAddress: 2 });
    const kept = [await come("127.0.0.2"), await come("127.0.0.2")];
    await expect(come("127.0.0.2")).rejects.toThrow();
    const told = await enter("http1", server, "127.0.0.2");
    expect(await told.call()).toBe(503);
    for (const peer of kept) expect(await peer.call()).toBe(200);
    const other = await come("127.0.0.3");
    expect(await other.call()).toBe(200);
    expect(await metric(refused("address"))).toBe(2);
    kept[0]?.destroy();
    await until(10_000, "room for the address again", async () => {
      const again = await come("127.0.0.2").catch(() => undefined);
      return (await again?.call().catch(() => undefined)) === 200;
    });
  });

  it("counts TCP and QUIC together", async () => {
    const { server, metric } = await useCrowd("http3", { maxConnectionsPerAddress: 2 });
    const [tcp, quic] = [await enter("http2s", server), await enter("http3", server)];
    // Both are known to the server.
    expect(await quic.call()).toBe(200);
    await expect(enter("http1s", server)).rejects.toThrow();
    const late = await enter("http3", server).catch(() => undefined);
    await within(10_000, "the end of the second connection of QUIC", late?.closed ?? Promise.resolve(""));
    expect(await metric(refused("address"))).toBe(2);
    expect(await tcp.call()).toBe(200);
    expect(await quic.call()).toBe(200);
    const other = await enter("http2s", server, "127.0.0.9");
    expect(await other.call()).toBe(200);
  });

  it("is off on loopback unless it is set", async () => {
    const { enter: come } = await useCrowd("http2", { maxConnections: 10 });
    const peers = [];
    for (let i = 0; i < 5; i++) peers.push(await come());
    for (const peer of peers) expect(await peer.call()).toBe(200);
  });
});
