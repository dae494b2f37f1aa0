import { once } from "node:events";
import { connect } from "node:net";
import { expect, it } from "vitest";
import { random } from "../support/cutting-proxy.ts";
import { within } from "../support/deadline.ts";
import { flags, frame, frameTypes, headers, preface, resetFrame, settings } from "../support/http2-frames.ts";
import { startServerProcess } from "../support/server-process.ts";

/** Connections, and how many at once. Without the cure the process ended after 20 to 1,000 of them. */
const connections = 3000;
const width = 64;

/** A stream whose headers are wrong is reset, and an error of the connection ends its session in the same turn. */
const bytes = Buffer.concat([
  preface,
  settings([1, 1], [1, 0x7fffffff]),
  headers(1, [
    [":method", "HEAD"],
    [":scheme", "https"],
    [":path", "/data.v1.DataService/Append"],
    [":authority", "localhost"],
    ["content-type", "application/json"],
    ["cookie", "a=b"],
  ]),
  headers(5, [
    [":method", "OPTIONS"],
    [":scheme", "ftp"],
    [":path", "//"],
    [":authority", ""],
    ["acme-token", "wrong"],
    ["content-type", "application/grpc"],
    ["trailer", "x-after"],
  ]),
  resetFrame(5, 11),
  frame(frameTypes.settings, flags.ack, 0, Buffer.alloc(6)),
]);

/** Collects all garbage when something comes from another connection, which may be in the turn in which a session ended. */
const collecting = `
import { Socket } from "node:net";
for (const name of ["unshift", "destroy"]) {
  const original = Socket.prototype[name];
  Socket.prototype[name] = function (...args) {
    gc();
    return original.apply(this, args);
  };
}
`;

it("a session that is collected right after its end does not end the process", async () => {
  const server = await startServerProcess(["--store", "memory", "--max-reset-rate", "1000000"], {
    nodeOptions: ["--expose-gc", "--import", `data:text/javascript,${encodeURIComponent(collecting)}`],
  });
  let ended: number | string | undefined;
  void server.exited.then((how) => (ended = how));
  let made = 0;
  const next = random(20_261_125);
  const draw = (end: number): number => Math.floor(next() * end);
  const work = async (): Promise<void> => {
    while (made < connections && ended === undefined) {
      const number = made++;
      const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
      socket.on("error", () => undefined);
      socket.resume();
      const closed = new Promise((resolve) => socket.once("close", resolve));
      await within(10_000, "a connection", Promise.race([once(socket, "connect"), closed]));
      // In several reads, which end elsewhere each time.
      for (let at = 0; at < bytes.byteLength && !socket.destroyed;) {
        const step = 1 + draw(100);
        socket.write(bytes.subarray(at, at + step));
        at += step;
        await new Promise(setImmediate);
      }
      if (number % 2 === 0) socket.end();
      await new Promise((resolve) => setTimeout(resolve, 10));
      socket.destroy();
      await closed;
    }
  };
  await Promise.all(Array.from({ length: width }, work));
  expect(ended, server.log.slice(-2000)).toBeUndefined();
  server.kill("SIGTERM");
  expect(await within(20_000, "the end of the process", server.exited)).toBe(0);
}, 120_000);
