import { describe, expect, it } from "vitest";
import { caseName, selectCases, shapes } from "../../bench/cases.ts";
import { targetFor } from "../../bench/targets.ts";

const names = (only: string[], quick = false): string[] => selectCases(only, quick).map(caseName);

describe("selectCases", () => {
  it("takes the whole matrix, once each, without patterns", () => {
    const all = names([]);
    expect(new Set(all).size).toBe(all.length);
    for (const shape of shapes) expect(all.some((name) => name.startsWith(`${shape}/`))).toBe(true);
  });

  it("measures, also when quick, something for every target", () => {
    for (const quick of [false, true]) {
      for (const contender of ["connect-node", "grpc-js", "http2", "connect-go", "grpc-go"]) {
        const targets = selectCases([], quick).flatMap((what) => targetFor(what, contender) ?? []);
        expect(targets.length, `${contender}, quick: ${quick}`).toBeGreaterThan(0);
      }
    }
  });

  it("chooses by shape, size and streams", () => {
    expect(names(["pingpong/64KiB"])).toEqual(["pingpong/64KiB/1"]);
    expect(names(["*/1MiB"])).toEqual(["upload/1MiB/1", "download/1MiB/1", "bidi/1MiB/1"]);
    expect(names(["unary/*/1", "pingpong/*/10"])).toEqual(["unary/100B/1", "pingpong/100B/10"]);
    expect(names(["pingpong", "pingpong/64KiB"])).toEqual(names(["pingpong"]));
  });

  it("runs a case that is not in the matrix if all of it is given", () => {
    expect(names(["download/2KiB/7"])).toEqual(["download/2KiB/7"]);
  });

  for (const bad of ["sideways", "upload/7B", "upload/100B/1/2", "upload/100B/0"]) {
    it(`refuses ${bad}`, () => {
      expect(() => selectCases([bad], false)).toThrow(`--only ${bad}`);
    });
  }
});

describe("targetFor", () => {
  const ratio = (name: string, contender: string): number | undefined => {
    const [what] = selectCases([name], false);
    return what === undefined ? undefined : targetFor(what, contender)?.atLeast;
  };

  it("knows small messages, large ones, and many streams", () => {
    expect(ratio("bidi/100B/1", "connect-node")).toBe(10);
    expect(ratio("upload/64KiB/1", "http2")).toBe(0.6);
    expect(ratio("download/100B/1000", "grpc-go")).toBe(0.7);
  });

  it("wants the tail of unary calls under load to be no worse", () => {
    expect(targetFor({ shape: "unary", size: 100, streams: 10 }, "grpc-js")).toEqual({ figure: "p99", atLeast: 1 });
    expect(ratio("unary/100B/1", "grpc-js")).toBeUndefined();
  });

  it("has none for the rest", () => {
    expect(ratio("upload/1KiB/1", "connect-node")).toBeUndefined();
    expect(ratio("bidi/64KiB/1", "connect-node")).toBeUndefined();
  });
});
