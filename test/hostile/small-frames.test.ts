import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { expect, it, onTestFinished } from "vitest";
import { until, within } from "../support/deadline.ts";
import { frame } from "../support/http2-frames.ts";
import { envelope } from "../support/raw.ts";
import { startServerProcess } from "../support/server-process.ts";

// The window of a stream that the server had paused could be filled with DATA frames of one byte each: node:http2 made a
// Buffer of each, 100 MB for 1 MiB, on a stream of a service that answers without a token.

const MiB = 1024 * 1024;
const types = { data: 0, headers: 1, settings: 4, windowUpdate: 8 } as const;
const endHeaders = 4;
const endStream = 1;
const ack = 1;

/** Fields without indexing: RFC 7541, section 6.2.2. */
function fields(header: Readonly<Record<string, string>>): Buffer {
  const text = (value: string): Buffer => Buffer.from([value.length, ...Buffer.from(value)]);
  return Buffer.concat(Object.entries(header).flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

/** Settings and an increment of the connection's window. */
function setting(id: number, value: number): Buffer {
  const bytes = Buffer.alloc(6);
  bytes.writeUInt16BE(id, 0);
  bytes.writeUInt32BE(value, 2);
  return bytes;
}

async function put(socket: Socket, bytes: Buffer): Promise<void> {
  if (!socket.write(bytes)) await within(20_000, "the server's reading", once(socket, "drain"));
}

/** Asks for the list of services. */
const ask = envelope(Buffer.from([0x3a, 0]));

it.skipIf(process.platform !== "linux")(
  "frames of one byte on paused streams are joined, and none is lost",
  { timeout: 120_000 },
  async () => {
    const server = await startServerProcess(["--store", "memory", "--log-level", "error"]);
    const { hostname, port } = new URL(server.url);
    const socket = connect(Number(port), hostname);
    onTestFinished(() => {
      socket.destroy();
    });
    const answers = new Map<number, { bytes: number; each: number }>();
    const over = new Set<number>();
    let pending = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      pending = Buffer.concat([pending, chunk]);
      while (pending.byteLength >= 9 && pending.byteLength >= 9 + pending.readUIntBE(0, 3)) {
        const length = pending.readUIntBE(0, 3);
        const stream = pending.readUInt32BE(5);
        if (pending[3] === types.data && length > 0) {
          // Each answer is the same, and the first one begins with the first frame.
          const answer = answers.get(stream) ?? { bytes: 0, each: 5 + pending.readUInt32BE(10) };
          answer.bytes += length;
          answers.set(stream, answer);
        }
        if (pending[3] === types.headers && ((pending[4] ?? 0) & endStream) !== 0) over.add(stream);
        pending = pending.subarray(9 + length);
      }
    });
    const memory = async (): Promise<number> => {
      const status = await readFile(`/proc/${server.pid}/status`, "utf8");
      return Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
    };

    // SETTINGS_INITIAL_WINDOW_SIZE 0: no answer is taken.
    const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    await put(
      socket,
      Buffer.concat([preface, frame(types.settings, 0, 0, setting(4, 0)), frame(types.settings, ack, 0)]),
    );
    const head = fields({
      ":method": "POST",
      ":scheme": "http",
      ":authority": hostname,
      ":path": "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
      "content-type": "application/grpc",
      te: "trailers",
    });
    const before = await memory();
    const streams = [1, 3, 5, 7, 9, 11];
    const questions = { whole: 6000, cut: 40_000 };
    for (const stream of streams) {
      await put(socket, frame(types.headers, endHeaders, stream, head));
      await put(
        socket,
        Buffer.concat(Array.from({ length: questions.whole }, () => frame(types.data, 0, stream, ask))),
      );
      const cut = Buffer.concat([...ask].map((byte) => frame(types.data, 0, stream, Buffer.from([byte]))));
      for (let i = 0; i < questions.cut; i += 1000) {
        await put(socket, Buffer.concat(Array.from({ length: 1000 }, () => cut)));
      }
    }
    await until(20_000, "the server's reading", () => socket.writableLength === 0);
    // It was 75 MB for each of them.
    expect((await memory()) - before).toBeLessThan(120 * MiB);

    const open = Buffer.alloc(4);
    open.writeUInt32BE(2 ** 31 - 1 - 65_535);
    await put(
      socket,
      Buffer.concat([frame(types.settings, 0, 0, setting(4, 2 ** 31 - 1)), frame(types.windowUpdate, 0, 0, open)]),
    );
    for (const stream of streams) await put(socket, frame(types.data, endStream, stream));
    await until(60_000, "the end of the answers", () => over.size === streams.length);
    for (const stream of streams) {
      const { bytes = 0, each = 1 } = answers.get(stream) ?? {};
      expect(bytes / each).toBe(questions.whole + questions.cut);
    }
  },
);
