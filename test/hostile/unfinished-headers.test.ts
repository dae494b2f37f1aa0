import { connect as connectHttp2 } from "node:http2";
import type { Socket } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { closing, until, within } from "../support/deadline.ts";
import { frame, preface } from "../support/http2-frames.ts";
import { startThrottlingProxy } from "../support/throttling-proxy.ts";
import { dial, enter, useCrowd } from "./peers.ts";

const settings = frame(4, 0, 0);
const settingsAck = frame(4, 1, 0);
/** `:method: POST`, `:scheme: http`, `:path: /` and `:authority: x`, by HPACK's static table (RFC 7541, appendix A). */
const block = Buffer.from([0x83, 0x86, 0x84, 0x41, 1, 0x78]);
const unfinished = frame(1, 0, 1, block);

async function useRaw(url: string): Promise<Socket> {
  const socket = await dial(url, undefined, "h2");
  onTestFinished(() => {
    socket.destroy();
  });
  socket.resume();
  return socket;
}

/** Writes a byte from time to time until the connection closes, as a peer that is only slow would. */
function trickle(socket: Socket, bytes: Buffer): void {
  let at = 0;
  const timer = setInterval(() => {
    socket.write(bytes.subarray(at, at + 1));
    at = (at + 1) % bytes.length;
  }, 100);
  socket.once("close", () => {
    clearInterval(timer);
  });
}

const timeouts = { headerTimeout: 1000, keepaliveInterval: 3_600_000 };
const headerTimeout = 'sluice_connections_closed_total{reason="header_timeout"}';

for (const door of ["http2", "http2s"] as const) {
  describe(`--header-timeout over ${door}`, () => {
    for (const [what, begin, rest] of [
      ["nothing", Buffer.alloc(0), undefined],
      ["the preface, and no SETTINGS", preface, undefined],
      ["the preface, and a part of SETTINGS", Buffer.concat([preface, settings.subarray(0, 4)]), undefined],
      ["HEADERS without END_HEADERS", Buffer.concat([preface, settings, unfinished]), undefined],
      ["a part of a frame's head", Buffer.concat([preface, settings, unfinished.subarray(0, 5)]), undefined],
      ["a part of a HEADERS frame", Buffer.concat([preface, settings, unfinished.subarray(0, 10)]), undefined],
      // A CONTINUATION frame without a byte, cut into its bytes, again and again.
      ["CONTINUATION byte by byte", Buffer.concat([preface, settings, unfinished]), frame(9, 0, 1)],
      [
        "a finished request and an unfinished one in one segment",
        Buffer.concat([preface, settings, settingsAck, frame(1, 5, 1, block), frame(1, 0, 3, block)]),
        undefined,
      ],
    ] as const) {
      it(`closes a connection that sends ${what}`, async () => {
        const { server, metric } = await useCrowd(door, timeouts);
        const healthy = await enter(door, server);
        const socket = await useRaw(server.url);
        socket.write(begin);
        if (rest !== undefined) trickle(socket, rest);
        await within(10_000, "the end of the connection", closing(socket));
        expect(await metric(headerTimeout)).toBe(1);
        expect(await within(10_000, "another client's answer", healthy.call())).toBe(200);
      });
    }

    it("closes it though a call is in flight on it", async () => {
      const { server, metric } = await useCrowd(door, timeouts);
      const socket = await useRaw(server.url);
      const healthCheck = Buffer.concat([
        block.subarray(0, 2),
        // `:path`, `content-type` and `te` as literals without indexing.
        ...[
          [":path", "/grpc.health.v1.Health/Watch"],
          [":authority", "localhost"],
          ["content-type", "application/grpc"],
          ["te", "trailers"],
        ].flatMap(([name = "", value = ""]) => [
          Buffer.from([0, name.length]),
          Buffer.from(name),
          Buffer.from([value.length]),
          Buffer.from(value),
        ]),
      ]);
      const body = Buffer.from([0, 0, 0, 0, 0]);
      socket.write(Buffer.concat([preface, settings, settingsAck, frame(1, 4, 1, healthCheck), frame(0, 1, 1, body)]));
      await until(10_000, "the call", async () => (await metric("sluice_calls_active")) === 1);
      socket.write(frame(1, 0, 3, block));
      await within(10_000, "the end of the connection", closing(socket));
      expect(await metric(headerTimeout)).toBe(1);
    });

    it("does not cut a slow link, though pings wait behind what is on it", async () => {
      const bytes = 512 * 1024;
      const { server, metric } = await useCrowd(
        door,
        { headerTimeout: 1500, keepaliveInterval: 500, keepaliveTimeout: 1000 },
        {
          streams({ onStream }) {
            onStream("/both", (request) => {
              const { readable, writable } = request.accept();
              const writer = writable.getWriter();
              // After all of the request has come.
              const read = readable.pipeTo(new WritableStream());
              read
                .then(() => writer.write(new Uint8Array(bytes)))
                .then(
                  () => writer.close(),
                  () => undefined,
                );
            });
          },
        },
      );
      for (const direction of ["up", "down"] as const) {
        // Whatever is ahead of a ping, or of its answer, takes five seconds, several times as long as they have.
        const proxy = await startThrottlingProxy(server.url, direction, 100 * 1024);
        const socket = await dial(proxy.url, undefined, "h2");
        const session = connectHttp2(proxy.url, {
          createConnection: () => socket,
          settings: { initialWindowSize: 2 * bytes },
        });
        session.on("error", () => undefined);
        onTestFinished(() => {
          session.destroy();
        });
        session.on("connect", () => {
          session.setLocalWindowSize(2 * bytes);
        });
        const stream = session.request({ ":method": "POST", ":path": "/both", authorization: "Bearer sample" });
        stream.on("error", () => undefined);
        let received = 0;
        stream.on("data", (chunk: Buffer) => (received += chunk.byteLength));
        stream.end(direction === "up" ? Buffer.alloc(bytes) : undefined);
        await within(20_000, "the end of the stream", closing(stream));
        expect(received).toBe(bytes);
        expect(stream.rstCode).toBe(0);
      }
      expect(await metric(headerTimeout)).toBe(0);
      expect(await metric('sluice_connections_closed_total{reason="keepalive_timeout"}')).toBe(0);
    });

    it("leaves peers alone that only answer pings, or nothing has asked", async () => {
      const { server, enter: come, metric } = await useCrowd(door, { ...timeouts, headerTimeout: 2000 });
      const [quiet, busy] = [await come(), await come()];
      const held = await busy.hold();
      let pings = 0;
      const socket = await dial(server.url, undefined, "h2");
      const session = connectHttp2(server.url, { createConnection: () => socket });
      session.on("error", () => undefined);
      onTestFinished(() => {
        session.destroy();
      });
      session.on("ping", () => pings++);
      // Several times as long as a connection within headers has.
      const until_ = performance.now() + 6000;
      await until(10_000, "three times the header timeout", () => performance.now() > until_);
      expect(await quiet.call()).toBe(200);
      held.end();
      expect(session.destroyed).toBe(false);
      // Asked once, and known to be between two frames since.
      expect(pings).toBeLessThanOrEqual(2);
      expect(await metric(headerTimeout)).toBe(0);
    });
  });
}

for (const door of ["http1", "http1s"] as const) {
  describe(`--header-timeout over ${door}`, () => {
    for (const [what, begin, rest] of [
      ["nothing", "", undefined],
      ["half of a request's headers", "POST / HTTP/1.1\r\nHost: x\r\n", undefined],
      ["headers byte by byte", "POST / HTTP/1.1\r\nHost: x\r\nX-Long: ", Buffer.from("x")],
    ] as const) {
      it(`closes a connection that sends ${what}`, async () => {
        const { server, metric } = await useCrowd(door, timeouts);
        const healthy = await enter(door, server);
        expect(await healthy.call()).toBe(200);
        const socket = await dial(server.url);
        onTestFinished(() => {
          socket.destroy();
        });
        socket.resume();
        socket.write(begin);
        if (rest !== undefined) trickle(socket, rest);
        await within(10_000, "the end of the connection", closing(socket));
        expect(await metric(headerTimeout)).toBe(1);
      });
    }
  });
}
