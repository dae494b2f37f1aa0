import { describe, expect, it } from "vitest";
import { formatSize, formatTable } from "../../src/cli/format.ts";
import { terminalText } from "../../src/cli/output.ts";
import { parseCount, parsePosition, parseSha256, parseSize, parseWait } from "../../src/cli/values.ts";

describe("parsePosition", () => {
  const now = Date.parse("2026-01-31T12:00:00Z");
  it.each([
    ["head", "head"],
    ["tail", "tail"],
    ["0", { seq: 0n }],
    ["42", { seq: 42n }],
    ["-10", { tailOffset: 10n }],
    ["2026-01-31T11:00:00Z", { time: new Date("2026-01-31T11:00:00Z") }],
    ["2026-01-31", { time: new Date("2026-01-31") }],
    ["15m", { time: new Date("2026-01-31T11:45:00Z") }],
  ])("reads %s", (text, position) => {
    expect(parsePosition("--from", text, now)).toEqual(position);
  });
  it.each(["", "-", "1.5", "-1.5", "yesterday", "2026-99-99", "1e3", "0x10"])("refuses %j", (text) => {
    expect(() => parsePosition("--from", text, now)).toThrow(`not "${text}"`);
  });
});

describe("values of flags", () => {
  it("are undefined if they are not given", () => {
    expect(parseCount("--n", undefined)).toBeUndefined();
    expect(parseSize("--n", undefined)).toBeUndefined();
    expect(parseWait("--n", undefined)).toBeUndefined();
    expect(parseSha256("--n", undefined)).toBeUndefined();
  });
  it.each(["-1", "1.5", "", "x", "11"])("refuse %j as a count from 0 to 10", (text) => {
    expect(() => parseCount("--n", text, { min: 0, max: 10 })).toThrow("--n must be a whole number from 0 to 10");
  });
  it("refuse what is no size, duration or checksum", () => {
    expect(() => parseSize("--n", "1 MB")).toThrow("--n must be a size such as");
    expect(() => parseWait("--n", "1y")).toThrow("--n must be a duration such as");
    expect(() => parseSha256("--n", "abc")).toThrow("--n must be 64 hexadecimal digits");
  });
  it("are read", () => {
    expect(parseCount("--n", "10")).toBe(10);
    expect(parseSize("--n", "64KiB")).toBe(65536);
    expect(parseWait("--n", "1.5s")).toBe(1500);
    expect(parseSha256("--n", "AB".repeat(32))).toEqual(Buffer.alloc(32, 0xab));
  });
});

describe("terminalText", () => {
  it("takes out what could move the cursor, and leaves text alone", () => {
    expect(terminalText("caf\u00e9\t\u{1f600}")).toBe("caf\u00e9\t\u{1f600}");
    expect(terminalText("a\u001b[2Jb")).toBe("ab");
    expect(terminalText("a\rb\u0007\u009b2J")).toBe("a\ufffdb\ufffd");
  });
});

describe("format", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1.00 kB"],
    [1234567, "1.23 MB"],
    [999_600, "1.00 MB"],
    [2 ** 50, "1.13 PB"],
  ])("shows %d bytes", (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });
  it("aligns numbers to the right", () => {
    expect(
      formatTable(
        ["NAME", "N"],
        [
          ["a", "1,000"],
          ["bcdef", "5"],
        ],
      ),
    ).toBe(["NAME       N", "a      1,000", "bcdef      5"].join("\n"));
  });
});
