import { describe, expect, it } from "vitest";
import { LazyAbort } from "../../src/async/lazy-abort.ts";

describe("LazyAbort", () => {
  const reason = new Error("over");

  it("tells its listeners, then those of the signal; the first reason counts", () => {
    const heard: unknown[] = [];
    const lazy = new LazyAbort();
    lazy.signal.addEventListener("abort", () => heard.push(["signal", lazy.signal.reason]));
    lazy.onAbort((why) => heard.push(["listener", why]));
    lazy.onAbort(() => heard.push("removed"))();
    lazy.abort(reason);
    lazy.abort(new Error("again"));
    expect(heard).toEqual([
      ["listener", reason],
      ["signal", reason],
    ]);
  });

  it("gives whoever comes late a signal that is aborted, and calls a late listener", () => {
    const lazy = new LazyAbort();
    expect(lazy.aborted).toBe(false);
    lazy.abort(reason);
    expect(lazy.aborted).toBe(true);
    expect(lazy.signal.aborted).toBe(true);
    expect(lazy.signal.reason).toBe(reason);
    const heard: unknown[] = [];
    lazy.onAbort((why) => heard.push(why));
    expect(heard).toEqual([reason]);
  });
});
