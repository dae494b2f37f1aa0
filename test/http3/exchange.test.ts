import { Code } from "@connectrpc/connect";
import { createHash, randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { OpenExchange } from "../../src/client/client-exchange.ts";
import type { HttpExchange } from "../../src/runtime/exchange.ts";
import { deferred, until, within } from "../support/deadline.ts";
import { Received, put, useHttp3, useHttp3Client, windows } from "../support/http3.ts";

const post = (url: string, header: HeadersInit = {}) => ({
  method: "POST",
  url: `${url}/a/b?c=d`,
  header: new Headers(header),
});
const bytes = (text: string): Uint8Array => Buffer.from(text);
const chunkCount = 10;

/** Answers with the body it gets. */
function echo(exchange: HttpExchange): void {
  exchange.sendHead(200, new Headers({ "x-path": exchange.path }));
  exchange.receive({
    onChunk(chunk) {
      if (!exchange.write([chunk])) {
        exchange.pause();
        exchange.onDrain(() => {
          exchange.resume();
        });
      }
    },
    onEnd() {
      exchange.end(new Headers({ "x-trailer": "t" }));
    },
  });
}

/** Waits until the number stays the same while others are served on the same connection. */
async function still(open: OpenExchange, url: string, value: () => number): Promise<void> {
  let before = -1;
  await until(10_000, "the pause", async () => {
    const same = value() === before;
    before = value();
    for (let i = 0; i < 20; i++) {
      const received = new Received();
      const ping = await open(post(url, { "x-echo": "" }), received);
      ping.write([bytes("ping")], () => undefined);
      ping.end();
      await within(5000, "an answer", received.end.promise);
    }
    return same;
  });
}

describe("an exchange over HTTP/3", () => {
  it("gives who keeps chunks memory of their own, on both sides", async () => {
    const sent = randomBytes(1024 * 1024);
    const kept: Uint8Array[] = [];
    const { url } = await useHttp3((exchange) => {
      exchange.sendHead(200, new Headers());
      exchange.receive({
        onChunk: (chunk) => kept.push(chunk),
        onEnd() {
          exchange.write([sent]);
          exchange.end();
        },
      });
    });
    const received = new Received();
    const request = await useHttp3Client(url)(post(url), received);
    request.write([sent], () => undefined);
    request.end();
    await within(10_000, "the answer", received.end.promise);
    expect(Buffer.concat(kept).equals(sent)).toBe(true);
    expect(Buffer.concat(received.chunks).equals(sent)).toBe(true);
  });

  it("has the request's parts, and gives back status, headers, body and trailers", async () => {
    const seen = deferred<Record<string, unknown>>();
    const { url } = await useHttp3((exchange) => {
      const { method, path, httpVersion, peer, header } = exchange;
      seen.resolve({ method, url: exchange.url, path, httpVersion, peer, x: header.get("x"), y: header.get("y") });
      echo(exchange);
    });
    const received = new Received();
    // Bytes beyond ASCII stay what they are.
    const exchange = await useHttp3Client(url)(post(url, { x: "a, b", y: "\u00e9" }), received);
    exchange.write([bytes("one "), bytes("two "), bytes("three")], () => undefined);
    exchange.end();
    const trailer = await within(5000, "the end", received.end.promise);
    const { status, header } = await received.head.promise;
    expect(await seen.promise).toEqual({
      method: "POST",
      url: `${url}/a/b?c=d`,
      path: "/a/b",
      httpVersion: "3.0",
      peer: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
      x: "a, b",
      y: "\u00e9",
    });
    expect([status, header.get("x-path"), received.text, trailer.get("x-trailer")]).toEqual([
      200,
      "/a/b",
      "one two three",
      "t",
    ]);
  });

  it("shows each chunk of a streamed request as it arrives", async () => {
    const events: string[] = [];
    const seen = Array.from({ length: chunkCount }, () => deferred());
    const { url } = await useHttp3((exchange) => {
      exchange.sendHead(200, new Headers());
      exchange.receive({
        onChunk(chunk) {
          const text = Buffer.from(chunk).toString();
          events.push(`server got ${text}`);
          seen[Number(text)]?.resolve();
        },
        onEnd() {
          events.push("server got the end");
          exchange.end();
        },
      });
    });
    const received = new Received();
    const exchange = await useHttp3Client(url)(post(url), received);
    const expected: string[] = [];
    for (const [i, arrived] of seen.entries()) {
      events.push(`client sends ${i}`);
      exchange.write([bytes(String(i))], () => undefined);
      // The next is sent only then: a body that is held back until its end would wait forever.
      await within(5000, `the arrival of chunk ${i}`, arrived.promise);
      expected.push(`client sends ${i}`, `server got ${i}`);
    }
    exchange.end();
    await within(5000, "the end", received.end.promise);
    expect(events).toEqual([...expected, "server got the end"]);
  });

  it("flushes each chunk of a streamed response as it is written", async () => {
    const events: string[] = [];
    const received = new Received();
    const { url } = await useHttp3((exchange) => {
      exchange.sendHead(200, new Headers());
      const respond = async (): Promise<void> => {
        for (let i = 0; i < chunkCount; i++) {
          const arrived = deferred();
          received.onEach = () => {
            events.push(`client got ${Buffer.from(received.chunks.at(-1) ?? []).toString()}`);
            arrived.resolve();
          };
          events.push(`server sends ${i}`);
          exchange.write([bytes(String(i))]);
          await within(5000, `the arrival of chunk ${i}`, arrived.promise);
        }
        exchange.end();
      };
      void respond();
    });
    const exchange = await useHttp3Client(url)(post(url), received);
    exchange.end();
    await within(10_000, "the end", received.end.promise);
    expect(events).toEqual(
      Array.from({ length: chunkCount }, (_, i) => [`server sends ${i}`, `client got ${i}`]).flat(),
    );
  });

  it("moves 64 MiB each way, unharmed, many streams at once", async () => {
    const { url } = await useHttp3(echo);
    const open = useHttp3Client(url);
    const block = randomBytes(1024 * 1024);
    const move = async (blocks: number): Promise<void> => {
      const sent = createHash("sha256");
      const got = createHash("sha256");
      const received = new Received();
      received.onEach = () => {
        got.update(received.chunks.pop() ?? new Uint8Array());
      };
      const exchange = await open(post(url), received);
      for (let i = 0; i < blocks; i++) {
        block.writeUInt32LE(i);
        sent.update(block);
        await put(exchange, received, block);
      }
      exchange.end();
      await received.end.promise;
      expect(received.bytes).toBe(blocks * block.byteLength);
      expect(got.digest("hex")).toBe(sent.digest("hex"));
    };
    await within(60_000, "the end of 64 MiB", Promise.all([move(40), move(16), move(8)]));
  });

  it("tells the handler at once when the client resets, before and after the end of the request", async () => {
    for (const ended of [false, true]) {
      const closed = deferred<boolean>();
      const { url } = await useHttp3((exchange) => {
        exchange.receive({ onChunk: () => undefined, onEnd: () => undefined });
        exchange.onClose(closed.resolve);
        exchange.sendHead(200, new Headers());
      });
      const received = new Received();
      const exchange = await useHttp3Client(url)(post(url), received);
      exchange.write([bytes("x")], () => undefined);
      if (ended) exchange.end();
      await within(5000, "the head", received.head.promise);
      exchange.reset("canceled");
      expect(await within(5000, "the handler's end", closed.promise)).toBe(false);
    }
  });

  it("tells the client when the server cuts a response", async () => {
    const { url } = await useHttp3((exchange) => {
      exchange.sendHead(200, new Headers());
      exchange.write([bytes("x")]);
      exchange.reset();
    });
    const received = new Received();
    await useHttp3Client(url)(post(url), received);
    await expect(within(5000, "the failure", received.end.promise)).rejects.toMatchObject({ code: Code.Canceled });
  });

  it("takes an answer that does not wait for the request, and sends no more of it", async () => {
    const { url } = await useHttp3((exchange) => {
      exchange.sendHead(403, new Headers());
      exchange.write([bytes("no")]);
      exchange.end();
    });
    const received = new Received();
    const exchange = await useHttp3Client(url)(post(url), received);
    exchange.write([new Uint8Array(8 * 1024 * 1024)], () => undefined);
    await within(5000, "the end", received.end.promise);
    expect([(await received.head.promise).status, received.text]).toEqual([403, "no"]);
    expect(exchange.write([bytes("late")], () => undefined)).toBe(true);
  });

  it("holds bounded memory for a client that stops reading, and serves others on the connection", async () => {
    const block = new Uint8Array(64 * 1024);
    let written = 0;
    const { url } = await useHttp3((exchange) => {
      if (exchange.header.get("x-echo") !== null) {
        echo(exchange);
        return;
      }
      exchange.sendHead(200, new Headers());
      const fill = (): void => {
        let open = true;
        while (open && !exchange.closed) {
          open = exchange.write([block]);
          written += block.byteLength;
        }
      };
      exchange.onDrain(fill);
      fill();
    });
    const open = useHttp3Client(url);
    const stalled = new Received();
    const exchange = await open(post(url), stalled);
    exchange.pause();
    await within(5000, "the head", stalled.head.promise);
    await still(open, url, () => written);
    // The stream's window, what the client holds unread, and what waits on the server's side.
    expect(written).toBeLessThan(windows.streamWindow + 4 * 256 * 1024 + 4 * block.byteLength);
    const atPause = stalled.bytes;
    exchange.resume();
    await until(5000, "more", () => stalled.bytes > atPause + 2 * windows.streamWindow);
    exchange.reset("canceled");
  });

  it("stops a client whose server does not read", async () => {
    const accepted = deferred<HttpExchange>();
    const { url } = await useHttp3(
      (exchange) => {
        if (exchange.header.get("x-echo") === null) accepted.resolve(exchange);
        else echo(exchange);
      },
      { streamWindow: windows.streamWindow },
    );
    const open = useHttp3Client(url);
    const received = new Received();
    const exchange = await open(post(url), received);
    const block = new Uint8Array(64 * 1024);
    const blocks = 128;
    let sent = 0;
    const pump = async (): Promise<void> => {
      for (let i = 0; i < blocks; i++) {
        sent += block.byteLength;
        await put(exchange, received, block);
      }
      exchange.end();
    };
    const pumped = pump();
    const server = await within(5000, "the request", accepted.promise);
    await still(open, url, () => sent);
    expect(sent).toBeLessThan(windows.streamWindow + 4 * 256 * 1024 + 4 * block.byteLength);
    let got = 0;
    const all = deferred();
    server.receive({
      onChunk(chunk) {
        got += chunk.byteLength;
      },
      onEnd: all.resolve,
    });
    await within(5000, "the end", all.promise);
    await pumped;
    expect(got).toBe(blocks * block.byteLength);
  });

  it("answers headers that are too large with 431", async () => {
    const { url } = await useHttp3(echo, { maxHeaderBytes: 4096 });
    const received = new Received();
    // Against what the server has advertised, so that the client must not have seen it: the first request.
    const exchange = await useHttp3Client(url)(post(url, { x: "x".repeat(5000) }), received);
    exchange.end();
    const outcome = await within(
      5000,
      "the answer",
      received.head.promise.then(
        ({ status }) => status,
        (error: unknown) => String(error),
      ),
    );
    expect(String(outcome)).toMatch(/^431$|headers take/);
  });

  it("lets go of every stream and connection", async () => {
    const { url, listener } = await useHttp3(echo);
    const open = useHttp3Client(url);
    for (let i = 0; i < 300; i++) {
      const received = new Received();
      const exchange = await open(post(url), received);
      exchange.write([bytes("x")], () => undefined);
      if (i % 3 === 0) exchange.reset("canceled");
      else exchange.end();
      if (i % 3 !== 0) await within(5000, "the end", received.end.promise);
    }
    await until(5000, "the end of every stream", () => listener.counters.streams === 0);
    expect(listener.counters).toMatchObject({ connections: 1, panics: 0 });
  });
});
