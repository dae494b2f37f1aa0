import { describe, expect, it } from "vitest";
import { DuplexStream } from "../../src/wire/duplex-stream.ts";
import type { DuplexCarrier } from "../../src/wire/duplex-stream.ts";

/** Notes what is asked of it; `open` is what writes return, and `sent` holds their callbacks. */
function createCarrier() {
  const asked: string[] = [];
  const sent: (() => void)[] = [];
  const state = { open: true };
  const carrier: DuplexCarrier = {
    write(_pieces, done) {
      sent.push(done);
      return state.open;
    },
    end: () => asked.push("end"),
    stopReceiving: () => asked.push("stopReceiving"),
    reset: (why) => asked.push(`reset ${why}`),
    pause: () => asked.push("pause"),
    resume: () => asked.push("resume"),
  };
  return { carrier, asked, sent, state };
}

describe("a duplex stream", () => {
  it("pauses the peer while more waits than it may, and counts tiny chunks for what they cost", async () => {
    for (const [size, count] of [
      [1000, 1],
      [1, 16],
    ] as const) {
      const { carrier, asked } = createCarrier();
      const duplex = new DuplexStream(carrier, 1000);
      for (let i = 0; i < count; i++) {
        expect(asked).toEqual([]);
        duplex.onChunk(new Uint8Array(size));
      }
      expect(asked).toEqual(["pause"]);
      duplex.onChunk(new Uint8Array(size));
      const reader = duplex.readable.getReader();
      for (let i = 0; i < count + 1; i++) expect((await reader.read()).value?.byteLength).toBe(size);
      expect(asked).toEqual(["pause", "resume"]);
    }
  });

  it("does not keep large memory for a small chunk that lies in it, and gives plain arrays", async () => {
    const { carrier } = createCarrier();
    const duplex = new DuplexStream(carrier, 1000);
    const slab = Buffer.alloc(64 * 1024, 1);
    duplex.onChunk(slab.subarray(10, 20));
    duplex.onChunk(slab.subarray(0, 32 * 1024));
    const reader = duplex.readable.getReader();
    const small = await reader.read();
    const large = await reader.read();
    expect([small.value, small.value?.buffer.byteLength]).toEqual([new Uint8Array(10).fill(1), 10]);
    expect([large.value?.constructor, large.value?.buffer]).toEqual([Uint8Array, slab.buffer]);
  });

  it("has written when the bytes are out and the peer keeps up", async () => {
    const { carrier, sent, state } = createCarrier();
    const duplex = new DuplexStream(carrier, 1000);
    const writer = duplex.writable.getWriter();
    const events: string[] = [];
    state.open = false;
    const written = writer.write(new Uint8Array(1)).then(() => events.push("written"));
    const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    await turn();
    sent[0]?.();
    await turn();
    expect(events).toEqual([]);
    duplex.onDrain();
    await written;
    state.open = true;
    const again = writer.write(new Uint8Array(1)).then(() => events.push("written"));
    await turn();
    expect(events).toEqual(["written"]);
    sent[1]?.();
    await again;
    expect(events).toEqual(["written", "written"]);
  });

  it("tells once that both directions are over", async () => {
    const { carrier, asked } = createCarrier();
    let over = 0;
    const duplex = new DuplexStream(carrier, 1000, () => over++);
    await duplex.writable.close();
    expect(over).toBe(0);
    await duplex.readable.cancel();
    duplex.onBroken(new Error("late"));
    expect([over, asked]).toEqual([1, ["end", "stopReceiving"]]);
  });
});
