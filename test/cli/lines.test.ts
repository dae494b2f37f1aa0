import { describe, expect, it } from "vitest";
import { batches, LineTooLongError, splitLines } from "../../src/cli/lines.ts";
import type { LongLines } from "../../src/cli/lines.ts";

async function* chunksOf(...chunks: string[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield await Promise.resolve(Buffer.from(chunk));
}

async function split(chunks: string[], maxLineBytes = 100, longLines: LongLines = "fail"): Promise<string[][]> {
  const all: string[][] = [];
  for await (const lines of splitLines(chunksOf(...chunks), { maxLineBytes, longLines })) {
    all.push(lines.map((line) => Buffer.from(line).toString()));
  }
  return all;
}

describe("splitLines", () => {
  it.each([
    { name: "lines that are there together", chunks: ["a\nb\n"], lines: [["a", "b"]] },
    { name: "a line over several chunks", chunks: ["a", "b", "c\nd\n"], lines: [["abc", "d"]] },
    { name: "a last line without a newline", chunks: ["a\nb"], lines: [["a"], ["b"]] },
    { name: "empty lines", chunks: ["\n\na\n"], lines: [["", "", "a"]] },
    { name: "carriage returns, which belong to the line", chunks: ["a\r\nb\n"], lines: [["a\r", "b"]] },
    { name: "nothing", chunks: [], lines: [] },
    { name: "a newline at the beginning of a chunk", chunks: ["a", "\nb\n"], lines: [["a", "b"]] },
  ])("finds $name", async ({ chunks, lines }) => {
    expect(await split(chunks)).toEqual(lines);
  });

  it("leaves bytes that are no UTF-8 as they are", async () => {
    const input = Buffer.from([0xff, 0x00, 0x0a, 0xc3]);
    const lines: Uint8Array[] = [];
    const options = { maxLineBytes: 10, longLines: "fail" } as const;
    for await (const some of splitLines([input] as unknown as AsyncIterable<Uint8Array>, options)) lines.push(...some);
    expect(lines.map((line) => [...line])).toEqual([[0xff, 0x00], [0xc3]]);
  });

  it.each([
    { name: "a whole line", chunks: ["ok\n", "12345\n"] },
    { name: "an unfinished line", chunks: ["ok\n", "123", "45"] },
    { name: "a line in the middle of a chunk", chunks: ["ok\n12345\nok\n"] },
  ])("hands over what came before $name that is too long", async ({ chunks }) => {
    const got: string[] = [];
    const reading = (async () => {
      for await (const lines of splitLines(chunksOf(...chunks), { maxLineBytes: 4, longLines: "fail" })) {
        got.push(...lines.map((line) => Buffer.from(line).toString()));
      }
    })();
    await expect(reading).rejects.toThrow(new LineTooLongError(2, 4));
    expect(got).toEqual(["ok"]);
  });
});

describe("a line that is too long", () => {
  const cases = [
    { name: "in one chunk", chunks: ["ok\n123456789\nok\n"], split: ["ok", "1234", "5678", "9", "ok"] },
    { name: "in several", chunks: ["123", "45", "6789", "\nok\n"], split: ["1234", "5678", "9", "ok"] },
    { name: "by a multiple of the limit", chunks: ["1234", "5678", "\n", "\n"], split: ["1234", "5678", ""] },
    { name: "without a newline", chunks: ["123456"], split: ["1234", "56"] },
  ];
  it.each(cases)("$name is split", async ({ chunks, split: lines }) => {
    expect((await split(chunks, 4, "split")).flat()).toEqual(lines);
  });
  it.each(cases)("$name is truncated", async ({ chunks }) => {
    const lines = chunks.join("").replace(/\n$/, "").split("\n");
    expect((await split(chunks, 4, "truncate")).flat()).toEqual(lines.map((line) => line.slice(0, 4)));
  });
  it("is told once", async () => {
    const numbers: number[] = [];
    const onLongLine = (line: number): number => numbers.push(line);
    const input = chunksOf("12345", "6789", "\nok\n12345");
    for await (const _ of splitLines(input, { maxLineBytes: 4, longLines: "truncate", onLongLine }));
    expect(numbers).toEqual([1, 3]);
  });
});

describe("batches", () => {
  const cut = (lines: string[], maxRecords: number, maxBytes: number): string[][] =>
    [
      ...batches(
        lines.map((line) => Buffer.from(line)),
        { maxRecords, maxBytes },
      ),
    ].map((batch) => batch.map((line) => Buffer.from(line).toString()));

  it("keeps the number of records", () => {
    expect(cut(["a", "b", "c"], 2, 100)).toEqual([["a", "b"], ["c"]]);
  });
  it("keeps the size", () => {
    expect(cut(["aa", "bb", "cc"], 10, 4)).toEqual([["aa", "bb"], ["cc"]]);
  });
  it("makes no empty batch", () => {
    expect(cut([], 2, 4)).toEqual([]);
    expect(cut(["too long"], 2, 4)).toEqual([["too long"]]);
  });
});
