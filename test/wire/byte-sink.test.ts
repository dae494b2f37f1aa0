import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ByteSink, Pieces } from "../../src/wire/byte-sink.ts";

/** What has been taken from the pieces of a stream, and what it must look like until it is released. */
interface Taken {
  readonly pieces: readonly Uint8Array[];
  readonly copy: Buffer;
  readonly release: () => void;
}

/** A stream that writes into the sink, and the bytes that it has added since it was taken from. */
interface Stream {
  readonly pieces: Pieces;
  pending: Buffer[];
}

type Step =
  | { readonly do: "write"; readonly stream: number; readonly sizes: readonly number[]; readonly rewinds: number }
  | { readonly do: "add"; readonly stream: number; readonly size: number }
  | { readonly do: "take"; readonly stream: number }
  | { readonly do: "release"; readonly which: number };

const streams = 5;
const stream = fc.nat(streams - 1);
const size = fc.oneof(
  { weight: 6, arbitrary: fc.nat(200) },
  { weight: 2, arbitrary: fc.nat(10_000) },
  // Around a quarter of what is allocated at a time, and beyond all of it.
  { weight: 1, arbitrary: fc.integer({ min: 16_000, max: 17_000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 60_000, max: 200_000 }) },
);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("write" as const),
      stream,
      // An item is reserved in several goes, as the fields of a message are.
      sizes: fc.array(size, { minLength: 1, maxLength: 4 }),
      rewinds: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(2) }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("add" as const), stream, size }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("take" as const), stream }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("release" as const), which: fc.nat() }) },
);

/** Each byte that is ever written differs from what was there before, so that writing again shows. */
class Ink {
  #next = 0;
  fill(bytes: Uint8Array): void {
    for (let i = 0; i < bytes.byteLength; i++) bytes[i] = this.#next = (this.#next + 0x3d) & 0xff;
    this.#next = (this.#next + 1) & 0xff;
  }
}

function writeItem(sink: ByteSink, ink: Ink, sizes: readonly number[]): Buffer {
  sink.beginItem();
  for (const n of sizes) {
    sink.reserve(n);
    expect(sink.bytes.byteLength - sink.pos).toBeGreaterThanOrEqual(n);
    ink.fill(sink.bytes.subarray(sink.pos, sink.pos + n));
    sink.pos += n;
  }
  return Buffer.from(sink.bytes.subarray(sink.begin, sink.pos));
}

/** Compares all that somebody may still look at. `all` covers what has been taken as well. */
function check(streamsNow: readonly Stream[], taken: readonly Taken[]): void {
  for (const { pieces, pending } of streamsNow) {
    expect(pieces.byteLength).toBe(pending.reduce((sum, { byteLength }) => sum + byteLength, 0));
  }
  for (const { pieces, copy } of taken) {
    // Not expect(): this is the hot part.
    if (!Buffer.concat(pieces).equals(copy)) throw new Error("memory was written again before it was released");
  }
}

describe("a byte sink", () => {
  it("never writes memory again before it is released", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 150 }), (steps) => {
        // Memory that is used again comes as it was; new memory need not be cleared either.
        const sink = new ByteSink((n) => new Uint8Array(n).fill(0xee));
        const ink = new Ink();
        const all = Array.from({ length: streams }, (): Stream => ({ pieces: new Pieces(sink), pending: [] }));
        const taken: Taken[] = [];
        const take = (one: Stream): void => {
          const { pieces, release } = one.pieces.take();
          const copy = Buffer.concat(one.pending);
          one.pending = [];
          expect(Buffer.concat(pieces).equals(copy)).toBe(true);
          taken.push({ pieces, copy, release });
        };
        for (const now of steps) {
          if (now.do === "release") {
            const [one] = taken.splice(now.which % Math.max(1, taken.length), 1);
            one?.release();
            // A callback that comes twice must not count twice.
            one?.release();
          } else {
            const one = all[now.stream] as Stream;
            if (now.do === "write") {
              for (let i = 0; i < now.rewinds; i++) {
                writeItem(sink, ink, now.sizes);
                sink.rewind();
              }
              const written = writeItem(sink, ink, now.sizes);
              one.pieces.addItem();
              one.pending.push(written);
            } else if (now.do === "add") {
              const bytes = new Uint8Array(now.size);
              ink.fill(bytes);
              one.pieces.add(bytes);
              one.pending.push(Buffer.from(bytes));
            } else {
              take(one);
            }
          }
          check(all, taken);
        }
        for (const one of all) take(one);
        check(all, taken);
      }),
      { numRuns: 250 },
    );
  }, 240_000);

  it("writes memory again once it is released, and so stops allocating", () => {
    let allocations = 0;
    const sink = new ByteSink((n) => {
      allocations++;
      return new Uint8Array(n);
    });
    const ink = new Ink();
    const pieces = new Pieces(sink);
    const round = (): void => {
      const releases = Array.from({ length: 4 }, () => {
        for (let i = 0; i < 20; i++) {
          writeItem(sink, ink, [1000]);
          pieces.addItem();
        }
        return pieces.take().release;
      });
      for (const release of releases) release();
    };
    round();
    round();
    const before = allocations;
    for (let i = 0; i < 100; i++) round();
    expect(allocations).toBe(before);
  });

  it("keeps a bounded amount of memory for later", () => {
    let allocated = 0;
    const sink = new ByteSink((n) => {
      allocated += n;
      return new Uint8Array(n);
    });
    const ink = new Ink();
    // Many streams hold a chunk each at once; all of them let go.
    const burst = (): number => {
      const before = allocated;
      const releases = Array.from({ length: 100 }, () => {
        const pieces = new Pieces(sink);
        writeItem(sink, ink, [60_000]);
        pieces.addItem();
        return pieces.take().release;
      });
      for (const release of releases) release();
      return allocated - before;
    };
    const first = burst();
    // What was not allocated again had been kept: 1 MiB each at most, eight of them.
    expect(first - burst()).toBeLessThanOrEqual(9 * 1024 * 1024);
  });

  it("copies many scattered pieces into one", () => {
    const sink = new ByteSink();
    const ink = new Ink();
    const [a, b] = [new Pieces(sink), new Pieces(sink)];
    const copies: Buffer[] = [];
    for (let i = 0; i < 40; i++) {
      copies.push(writeItem(sink, ink, [10]));
      a.addItem();
      writeItem(sink, ink, [10]);
      b.addItem();
    }
    const { pieces } = a.take();
    expect(pieces).toHaveLength(1);
    // The copy is its own: the sink may write on, and what it had is free.
    b.take().release();
    for (let i = 0; i < 100; i++) writeItem(sink, ink, [1000]);
    expect(Buffer.concat(pieces).equals(Buffer.concat(copies))).toBe(true);
  });
});
