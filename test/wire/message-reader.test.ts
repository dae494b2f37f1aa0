import { Code, ConnectError } from "@connectrpc/connect";
import { compressedFlag } from "@connectrpc/connect/protocol";
import { compressionGzip } from "@connectrpc/connect-node";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { MessageReader } from "../../src/wire/message-reader.ts";
import type { MessageReaderOptions } from "../../src/wire/message-reader.ts";
import { within } from "../support/deadline.ts";

function envelope(text: string, flags = 0): Buffer {
  const payload = (flags & compressedFlag) === 0 ? Buffer.from(text) : gzipSync(text);
  const prefix = Buffer.alloc(5);
  prefix[0] = flags;
  prefix.writeUInt32BE(payload.length, 1);
  return Buffer.concat([prefix, payload]);
}

function readerOf(options: Partial<MessageReaderOptions<string>> = {}) {
  const flow: string[] = [];
  const reader = new MessageReader<string>({
    source: { pause: () => flow.push("pause"), resume: () => flow.push("resume") },
    parse: (payload) => Buffer.from(payload).toString(),
    compression: compressionGzip,
    maxMessageBytes: 1000,
    maxQueuedBytes: 10,
    truncated: Code.InvalidArgument,
    ...options,
  });
  const next = () => within(5000, "a message", reader.next());
  return { reader, next, flow };
}

async function codeOf(work: Promise<unknown>): Promise<Code> {
  return ConnectError.from(
    await work.then(
      () => "no failure",
      (error: unknown) => error,
    ),
  ).code;
}

describe("a message reader", () => {
  it("gives a plain message that follows a compressed one, whether it is waited for or not", async () => {
    const { reader, next } = readerOf();
    reader.onChunk(envelope("a", compressedFlag));
    expect((await next()).value).toBe("a");
    const waiting = next();
    reader.onChunk(envelope("b"));
    expect((await waiting).value).toBe("b");
    reader.onChunk(Buffer.concat([envelope("c", compressedFlag), envelope("d"), envelope("e", compressedFlag)]));
    reader.onEnd();
    expect([(await next()).value, (await next()).value, (await next()).value]).toEqual(["c", "d", "e"]);
    expect((await next()).done).toBe(true);
  });

  it("gives calls of next that overlap the messages in their order", async () => {
    const { reader, next } = readerOf();
    const calls = [next(), next(), next(), next()];
    reader.onChunk(Buffer.concat([envelope("a", compressedFlag), envelope("b"), envelope("c", compressedFlag)]));
    reader.onEnd();
    expect((await Promise.all(calls)).map(({ value }) => value)).toEqual(["a", "b", "c", undefined]);
  });

  it("gives what came whole before the body broke off, and then the failure", async () => {
    const { reader, next } = readerOf({ truncated: Code.Internal });
    reader.onChunk(Buffer.concat([envelope("a"), envelope("b").subarray(0, 5)]));
    reader.onEnd();
    expect((await next()).value).toBe("a");
    expect(await codeOf(next())).toBe(Code.Internal);
    expect(await codeOf(next())).toBe(Code.Internal);
  });

  it("gives nothing more once it has been failed for now", async () => {
    const { reader, next } = readerOf();
    reader.onChunk(envelope("a"));
    reader.fail(new ConnectError("late", Code.DeadlineExceeded), true);
    expect(await codeOf(next())).toBe(Code.DeadlineExceeded);
  });

  it("refuses a message that is too large, compressed or not", async () => {
    for (const flags of [0, compressedFlag]) {
      const { reader, next } = readerOf();
      reader.onChunk(Buffer.concat([envelope("a"), envelope("x".repeat(1001), flags)]));
      expect((await next()).value).toBe("a");
      expect(await codeOf(next())).toBe(Code.ResourceExhausted);
    }
  });

  it("fails on what cannot be decompressed, and on compression that was not agreed on", async () => {
    const garbage = readerOf();
    const broken = envelope("a");
    broken[0] = compressedFlag;
    garbage.reader.onChunk(broken);
    expect(await codeOf(garbage.next())).toBe(Code.Internal);
    const none = readerOf({ compression: null });
    none.reader.onChunk(envelope("a", compressedFlag));
    expect(await codeOf(none.next())).toBe(Code.Internal);
  });

  it("asks for a pause while much waits, and goes on when half of it has been read", async () => {
    // Each counts with 64 bytes more than its payload.
    const { reader, next, flow } = readerOf({ maxQueuedBytes: 2 * 69 });
    reader.onChunk(Buffer.concat([envelope("12345"), envelope("67890"), envelope("x")]));
    expect(flow).toEqual(["pause"]);
    await next();
    expect(flow).toEqual(["pause"]);
    await next();
    expect(flow).toEqual(["pause", "resume"]);
  });

  it("does not keep the memory that small chunks are cut from beyond the turn in which they come", async () => {
    const kept: number[] = [];
    const { reader, next } = readerOf({
      maxQueuedBytes: 1_000_000,
      nextTurn: (run) => setImmediate(run),
      parse: (payload) => {
        kept.push(payload.buffer.byteLength);
        return Buffer.from(payload).toString();
      },
    });
    /** As node:http2 hands out DATA frames: views of what it has read from the socket. */
    const chunk = (text: string): Buffer => {
      const bytes = envelope(text);
      const read = Buffer.from(new ArrayBuffer(64 * 1024));
      bytes.copy(read, 100);
      return read.subarray(100, 100 + bytes.length);
    };
    reader.onChunk(chunk("a"));
    expect((await next()).value).toBe("a");
    for (const text of ["b", "cc"]) reader.onChunk(chunk(text));
    await new Promise(setImmediate);
    reader.onChunk(chunk("d"));
    await new Promise(setImmediate);
    for (const text of ["b", "cc", "d"]) expect((await next()).value).toBe(text);
    // What is read in its turn is not copied; "b" and "cc" are, together.
    expect(kept).toEqual([64 * 1024, 3, 3, 1]);
  });

  it("lets the peer go on, and drops what it sends, once nobody reads any more", async () => {
    const { reader, next, flow } = readerOf();
    reader.onChunk(envelope("12345678901"));
    await reader.return();
    expect(flow).toEqual(["pause", "resume"]);
    reader.onChunk(envelope("12345678901"));
    expect(flow).toEqual(["pause", "resume"]);
    expect((await next()).done).toBe(true);
  });

  it("takes an end of the protocol's own as no message, and what is wrong with the end as a failure", async () => {
    const ends: string[] = [];
    const options = {
      end: { flag: 2, take: (payload: Uint8Array) => ends.push(Buffer.from(payload).toString()) },
      onComplete: () => {
        if (ends.length !== 1) throw new ConnectError("no end", Code.DataLoss);
      },
    };
    const good = readerOf(options);
    good.reader.onChunk(Buffer.concat([envelope("a"), envelope("end", 2 | compressedFlag)]));
    good.reader.onEnd();
    expect((await good.next()).value).toBe("a");
    expect((await good.next()).done).toBe(true);
    expect(ends).toEqual(["end"]);

    ends.length = 0;
    const waiting = readerOf(options);
    const last = waiting.next();
    waiting.reader.onChunk(envelope("end", 2));
    waiting.reader.onEnd();
    expect((await last).done).toBe(true);

    ends.length = 0;
    const bad = readerOf(options);
    bad.reader.onChunk(envelope("a"));
    bad.reader.onEnd();
    expect((await bad.next()).value).toBe("a");
    expect(await codeOf(bad.next())).toBe(Code.DataLoss);
  });
});
