import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { linkSignals, onAbort, raceSignal, reasonOf, sleep } from "../../src/async/signals.ts";

const never = new Promise<never>(() => undefined);

describe("sleep", () => {
  it("rejects with the reason, at once if the signal is aborted already", async () => {
    const reason = new Error("enough");
    await expect(sleep(60_000, AbortSignal.abort(reason))).rejects.toBe(reason);
    const controller = new AbortController();
    const slept = sleep(60_000, controller.signal);
    controller.abort(reason);
    await expect(slept).rejects.toBe(reason);
  });

  it("leaves no listener behind", async () => {
    const controller = new AbortController();
    await sleep(1, controller.signal);
    expect(getEventListeners(controller.signal, "abort")).toEqual([]);
  });
});

describe("raceSignal", () => {
  it("ends with the promise, and leaves no listener behind", async () => {
    const controller = new AbortController();
    await expect(raceSignal(Promise.resolve(7), controller.signal)).resolves.toBe(7);
    await expect(raceSignal(Promise.reject(new Error("no")), controller.signal)).rejects.toThrow("no");
    await Promise.resolve();
    expect(getEventListeners(controller.signal, "abort")).toEqual([]);
  });

  it("ends with the signal", async () => {
    const reason = new Error("enough");
    const controller = new AbortController();
    const raced = raceSignal(never, controller.signal);
    controller.abort(reason);
    await expect(raced).rejects.toBe(reason);
    await expect(raceSignal(Promise.reject(new Error("unseen")), AbortSignal.abort(reason))).rejects.toBe(reason);
  });
});

describe("onAbort", () => {
  it("calls at once for an aborted signal, and not after its cleanup", () => {
    const seen: Error[] = [];
    onAbort(AbortSignal.abort(new Error("a")), (reason) => seen.push(reason));
    const controller = new AbortController();
    onAbort(controller.signal, (reason) => seen.push(reason))();
    controller.abort();
    expect(seen.map((error) => error.message)).toEqual(["a"]);
  });
});

describe("linkSignals", () => {
  it("follows the first that is aborted, and lets go of the others", () => {
    const first = new AbortController();
    const second = new AbortController();
    const linked = linkSignals(first.signal, undefined, second.signal);
    second.abort(new Error("second"));
    expect(reasonOf(linked.signal).message).toBe("second");
    expect(getEventListeners(first.signal, "abort")).toEqual([]);
  });

  it("is aborted at once by an aborted signal, and holds none of the others", () => {
    const first = new AbortController();
    const linked = linkSignals(first.signal, AbortSignal.abort(new Error("already")));
    linkSignals(AbortSignal.abort(), first.signal);
    expect(reasonOf(linked.signal).message).toBe("already");
    expect(getEventListeners(first.signal, "abort")).toEqual([]);
  });

  it("gives reasons that are not errors as errors", () => {
    expect(reasonOf(AbortSignal.abort("text"))).toMatchObject({ message: "aborted", cause: "text" });
  });
});
