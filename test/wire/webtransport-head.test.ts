import { describe, expect, it } from "vitest";
import { HeadError, HeadReader, encodeHead } from "../../src/wire/webtransport-head.ts";
import type { StreamHead } from "../../src/wire/webtransport-head.ts";

const heads: Record<string, StreamHead> = {
  "of a session": { kind: "opening", header: new Headers({ authorization: "Bearer sample" }) },
  "of a call": {
    kind: "call",
    method: "POST",
    path: "/greet.v1.GreetService/Greet?x=1",
    header: new Headers([
      ["content-type", "application/connect+proto"],
      ["a", "1"],
      ["a", "2"],
    ]),
  },
  "of a response": { kind: "response", status: 200, header: new Headers({ "greet-version": "v1" }) },
};

function bytesOf(json: unknown): Uint8Array {
  const payload = Buffer.from(typeof json === "string" ? json : JSON.stringify(json));
  return Buffer.concat([Buffer.from([0x40, 0, 0, payload.length >> 8, payload.length & 0xff]), payload]);
}

describe("a head", () => {
  for (const [what, head] of Object.entries(heads)) {
    it(`${what} is read as it was written, however it is cut, and with what follows`, () => {
      const bytes = Buffer.concat([encodeHead(head), Buffer.from("rest")]);
      for (let cut = 0; cut <= bytes.length; cut++) {
        const reader = new HeadReader(1024);
        const found = reader.push(bytes.subarray(0, cut)) ?? reader.push(bytes.subarray(cut));
        expect(found?.head).toEqual(head);
        expect("rest".startsWith(Buffer.from(found?.rest ?? []).toString())).toBe(true);
      }
    });
  }

  it("takes no memory for what its length promises", () => {
    const reader = new HeadReader(1024);
    expect(() => reader.push(Uint8Array.of(0x40, 0, 0, 4, 1))).toThrow(/1025 bytes: 1024 are allowed/);
  });

  const bad: Record<string, Uint8Array> = {
    "that is a message": Uint8Array.of(0, 0, 0, 0, 0),
    "that is no JSON": bytesOf("{"),
    "that is no UTF-8": Uint8Array.of(0x40, 0, 0, 0, 1, 0xff),
    "that is a list": bytesOf([]),
    "that is null": bytesOf(null),
    "without a header": bytesOf({ version: 1 }),
    "of another version": bytesOf({ version: 2, header: [] }),
    "with a field that is no pair": bytesOf({ version: 1, header: [["a"]] }),
    "with a value that is no string": bytesOf({ version: 1, header: [["a", 1]] }),
    "with a name that is none": bytesOf({ version: 1, header: [["a b", "c"]] }),
    "with a value of two lines": bytesOf({ version: 1, header: [["a", "b\r\nc: d"]] }),
    "with a method that is none": bytesOf({ method: "post it", path: "/", header: [] }),
    "with a path that is none": bytesOf({ method: "POST", path: "https://other.example/", header: [] }),
    "with a status that is none": bytesOf({ status: 20, header: [] }),
  };
  for (const [what, bytes] of Object.entries(bad)) {
    it(`${what} is refused`, () => {
      expect(() => new HeadReader(1024).push(bytes)).toThrow(HeadError);
    });
  }
});
