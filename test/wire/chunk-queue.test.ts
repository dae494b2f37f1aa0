import { describe, expect, it } from "vitest";
import { ChunkQueue } from "../../src/wire/chunk-queue.ts";
import { within } from "../support/deadline.ts";

function useQueue() {
  const asked: string[] = [];
  const queue = new ChunkQueue({ pause: () => asked.push("pause"), resume: () => asked.push("resume") });
  return { queue, asked };
}

async function sizesOf(chunks: AsyncIterable<Uint8Array>): Promise<number[]> {
  const sizes: number[] = [];
  for await (const { byteLength } of chunks) sizes.push(byteLength);
  return sizes;
}

const next = (reader: AsyncGenerator<Uint8Array>) => within(5000, "the next chunk", reader.next());
const KiB = 1024;

describe("ChunkQueue", () => {
  it("hands on what has arrived, and then ends", async () => {
    const { queue, asked } = useQueue();
    queue.push(new Uint8Array(3));
    queue.push(new Uint8Array(5));
    queue.end();
    expect(await within(5000, "the chunks", sizesOf(queue.read()))).toEqual([3, 5]);
    expect(asked).toEqual([]);
  });

  it("wakes a reader who waits", async () => {
    const { queue } = useQueue();
    const reader = queue.read();
    const first = next(reader);
    queue.push(new Uint8Array(3));
    expect((await first).value).toHaveLength(3);
    const second = next(reader);
    queue.end();
    expect((await second).done).toBe(true);
  });

  it("asks for a pause beyond 64 KiB, until the reader has taken them", async () => {
    const { queue, asked } = useQueue();
    // Each chunk that waits counts for 128 bytes more.
    queue.push(new Uint8Array(64 * KiB - 128));
    expect(asked).toEqual([]);
    queue.push(new Uint8Array(1));
    expect(asked).toEqual(["pause"]);
    await next(queue.read());
    expect(asked).toEqual(["pause", "resume"]);
  });

  it("fails at once, whatever waits", async () => {
    const { queue, asked } = useQueue();
    queue.push(new Uint8Array(65 * KiB));
    queue.fail(new Error("gone"));
    queue.end();
    await expect(next(queue.read())).rejects.toThrow("gone");
    expect(asked).toEqual(["pause", "resume"]);
  });

  it("drops what comes after the reader has left, and lets it come", async () => {
    const { queue, asked } = useQueue();
    const reader = queue.read();
    queue.push(new Uint8Array(1));
    await next(reader);
    queue.push(new Uint8Array(65 * KiB));
    await reader.return(undefined);
    expect(asked).toEqual(["pause", "resume"]);
    queue.push(new Uint8Array(65 * KiB));
    expect(asked).toEqual(["pause", "resume"]);
  });
});
