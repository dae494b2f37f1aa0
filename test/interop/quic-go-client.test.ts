import { describe, expect, it } from "vitest";
import type { HttpExchange } from "../../src/runtime/exchange.ts";
import { deferred, within } from "../support/deadline.ts";
import { useHttp3 } from "../support/http3.ts";
import { useCertificateFiles } from "./support/certificates.ts";
import { useGoPrograms } from "./support/go.ts";
import { useProgram } from "./support/programs.ts";
import type { Program } from "./support/programs.ts";

const program = useGoPrograms("rawclient");
const files = useCertificateFiles();
const chunkCount = 10;
const waitMs = 15_000;
const bytes = (text: string): Uint8Array => Buffer.from(text);

/** Makes a request; the path is for `header` lines only. */
function request(command: "upload" | "download" | "takeover", url: string): Program {
  return useProgram(program("rawclient"), ["-ca", files.ca, command, `${url}/a?b=c`]);
}

/** A body as it arrives, each piece awaited by what it is. */
class Arrivals {
  readonly pieces: string[] = [];
  readonly ended = deferred();
  readonly #waiting = new Map<string, () => void>();

  constructor(exchange: HttpExchange, onPiece: (text: string) => void = () => undefined) {
    exchange.receive({
      onChunk: (chunk) => {
        const text = Buffer.from(chunk).toString();
        this.pieces.push(text);
        onPiece(text);
        this.#waiting.get(text)?.();
      },
      onEnd: this.ended.resolve,
    });
  }

  async of(text: string): Promise<void> {
    if (this.pieces.includes(text)) return;
    const arrived = deferred();
    this.#waiting.set(text, arrived.resolve);
    await within(waitMs, `the arrival of ${text}`, arrived.promise);
  }
}

describe("a quic-go client", () => {
  it("uploads through a pipe, and each piece arrives before the next is sent", async () => {
    const accepted = deferred<HttpExchange>();
    const { url } = await useHttp3(accepted.resolve);
    const client = request("upload", url);
    const exchange = await within(waitMs, "the request", accepted.promise);
    expect([exchange.method, exchange.httpVersion, exchange.header.get("content-length")]).toEqual([
      "POST",
      "3.0",
      null,
    ]);
    const arrivals = new Arrivals(exchange);
    for (let i = 0; i < chunkCount; i++) {
      // The client gets it only now: a body that is held back until its end would wait forever.
      client.write(`${i}\n`);
      await arrivals.of(String(i));
    }
    client.end();
    await within(waitMs, "the end of the body", arrivals.ended.promise);
    expect(arrivals.pieces).toEqual(Array.from({ length: chunkCount }, (_, i) => String(i)));
    exchange.sendHead(200, new Headers({ "x-answer": "a" }));
    exchange.write([bytes("thanks")]);
    exchange.end(new Headers({ "x-trailer": "t" }));
    expect(await within(waitMs, "the client's end", client.done)).toBe(0);
    expect(client.lines).toEqual(["head 200", "header X-Answer: a", "got thanks", "trailer X-Trailer: t", "end"]);
  });

  it("sees each piece of a download before the next is sent", async () => {
    const accepted = deferred<HttpExchange>();
    const { url } = await useHttp3(accepted.resolve);
    const client = request("download", url);
    const exchange = await within(waitMs, "the request", accepted.promise);
    exchange.sendHead(200, new Headers());
    for (let i = 0; i < chunkCount; i++) {
      exchange.write([bytes(`piece ${i}`)]);
      await client.printed(new RegExp(`^got piece ${i}$`));
    }
    exchange.end();
    expect(await within(waitMs, "the client's end", client.done)).toBe(0);
    expect(client.lines).toEqual([
      "head 200",
      ...Array.from({ length: chunkCount }, (_, i) => `got piece ${i}`),
      "end",
    ]);
  });

  it("speaks in turn over one stream", async () => {
    const accepted = deferred<HttpExchange>();
    const { url } = await useHttp3(accepted.resolve);
    const client = request("takeover", url);
    const exchange = await within(waitMs, "the request", accepted.promise);
    // It has sent no byte of a body yet, and sends none before this.
    exchange.sendHead(200, new Headers());
    await client.printed(/^head 200$/);
    const arrivals = new Arrivals(exchange);
    for (let i = 0; i < chunkCount; i++) {
      client.write(`ping ${i}\n`);
      await arrivals.of(`ping ${i}`);
      exchange.write([bytes(`pong ${i}`)]);
      await client.printed(new RegExp(`^got pong ${i}$`));
    }
    // Its half closes, and ours goes on.
    client.end();
    await within(waitMs, "the end of the client's half", arrivals.ended.promise);
    exchange.write([bytes("after")]);
    await client.printed(/^got after$/);
    exchange.end();
    expect(await within(waitMs, "the client's end", client.done)).toBe(0);
  });

  it("is refused by an answer to its headers, and has sent nothing else", async () => {
    const accepted = deferred<HttpExchange>();
    const { url } = await useHttp3(accepted.resolve);
    const client = request("takeover", url);
    client.write("secret\n");
    const exchange = await within(waitMs, "the request", accepted.promise);
    const closed = deferred<boolean>();
    exchange.onClose(closed.resolve);
    const arrivals = new Arrivals(exchange);
    exchange.sendHead(403, new Headers());
    exchange.write([bytes("not you")]);
    exchange.end();
    expect(await within(waitMs, "the client's end", client.done)).toBe(0);
    expect(client.lines).toEqual(["head 403", "got not you", "end"]);
    await within(waitMs, "the end of the exchange", closed.promise);
    expect(arrivals.pieces).toEqual([]);
  });

  it("gets an answer that does not wait for its upload", async () => {
    const accepted = deferred<HttpExchange>();
    const { url } = await useHttp3(accepted.resolve);
    const client = request("upload", url);
    client.write("a\n");
    const exchange = await within(waitMs, "the request", accepted.promise);
    await new Arrivals(exchange).of("a");
    exchange.sendHead(413, new Headers());
    exchange.write([bytes("enough")]);
    exchange.end();
    expect(await within(waitMs, "the client's end", client.done)).toBe(0);
    expect(client.lines).toEqual(["head 413", "got enough", "end"]);
  });

  it("finishes its upload while the server drains", async () => {
    const accepted = deferred<HttpExchange>();
    const { url, listener } = await useHttp3(accepted.resolve);
    const client = request("upload", url);
    client.write("before\n");
    const exchange = await within(waitMs, "the request", accepted.promise);
    const arrivals = new Arrivals(exchange);
    await arrivals.of("before");
    listener.drain();
    client.write("after\n");
    await arrivals.of("after");
    client.end();
    await within(waitMs, "the end of the body", arrivals.ended.promise);
    exchange.sendHead(200, new Headers());
    exchange.end();
    expect(await within(waitMs, "the client's end", client.done)).toBe(0);
    expect(client.lines).toEqual(["head 200", "end"]);
  });

  it("is told that a download was cut", async () => {
    const accepted = deferred<HttpExchange>();
    const { url } = await useHttp3(accepted.resolve);
    const client = request("download", url);
    const exchange = await within(waitMs, "the request", accepted.promise);
    exchange.sendHead(200, new Headers());
    exchange.write([bytes("half")]);
    await client.printed(/^got half$/);
    exchange.reset();
    expect(await within(waitMs, "the client's end", client.done)).toBe(1);
    expect(client.lines).toEqual(["head 200", "got half"]);
    expect(client.stderr).toMatch(/H3_REQUEST_CANCELLED/);
  });

  it("is seen to leave", async () => {
    const accepted = deferred<HttpExchange>();
    const { url } = await useHttp3(accepted.resolve);
    const client = request("takeover", url);
    const exchange = await within(waitMs, "the request", accepted.promise);
    const closed = deferred<boolean>();
    exchange.onClose(closed.resolve);
    const arrivals = new Arrivals(exchange);
    exchange.sendHead(200, new Headers());
    client.write("half\n");
    await arrivals.of("half");
    client.write("!cancel\n");
    expect(await within(waitMs, "the end of the exchange", closed.promise)).toBe(false);
    expect(arrivals.pieces).toEqual(["half"]);
  });
});
