import { describe, expect, it } from "vitest";
import { CapsuleReader, encodeClose, encodeDrain } from "../../src/http3/capsules.ts";

/** In one byte, or in two. */
function integer(value: number): number[] {
  return value < 0x40 ? [value] : [0x40 | (value >> 8), value & 0xff];
}

describe("capsules", () => {
  it("close a session, whatever comes before and however it is cut", () => {
    const close = { code: 0x01020304, reason: "bye" };
    // A datagram, a kind that nobody knows and is long, and one that is empty.
    const unknown = [...integer(0x17), ...integer(5000), ...Array.from({ length: 5000 }, () => 0x28)];
    const bytes = Buffer.from([...integer(0), 3, 1, 2, 3, ...unknown, ...encodeDrain(), ...encodeClose(close)]);
    for (let cut = 0; cut <= bytes.length; cut += cut < 20 || cut > 5000 ? 1 : 97) {
      const reader = new CapsuleReader();
      expect(reader.push(bytes.subarray(0, cut)) ?? reader.push(bytes.subarray(cut))).toEqual(close);
    }
  });

  it("are not taken for a close that is malformed", () => {
    for (const length of [0, 3, 1029]) {
      const reader = new CapsuleReader();
      expect(() => reader.push(Uint8Array.from([0x80, 0, 0x28, 0x43, ...integer(length)]))).toThrow(/strange length/);
    }
  });

  it("keep a reason to 1,024 bytes, and whole characters", () => {
    const reader = new CapsuleReader();
    const { reason } = reader.push(encodeClose({ code: 0, reason: `x${"é".repeat(600)}` })) ?? { reason: "" };
    expect(reason).toBe(`x${"é".repeat(511)}`);
  });

  it("have the bytes that the draft gives them", () => {
    expect([...encodeDrain()]).toEqual([0x80, 0, 0x78, 0xae, 0x40, 0]);
    expect([...encodeClose({ code: 1, reason: "a" })]).toEqual([0x80, 0, 0x28, 0x43, 0x40, 5, 0, 0, 0, 1, 0x61]);
  });
});
