import { describe, expect, it } from "vitest";
import { onAbort } from "../../src/async/signals.ts";
import { AdmittedCalls } from "../../src/auth/admitted-calls.ts";
import { endAtExpiry } from "../../src/auth/expiry.ts";
import type { Principal } from "../../src/auth/principal.ts";
import { DomainError } from "../../src/errors.ts";
import { within } from "../support/deadline.ts";

/** A call that can be ended, from either side. */
class TestCall {
  readonly #controller = new AbortController();
  readonly ended = Promise.withResolvers<Error>();
  reason: Error | undefined;

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  onAbort(listener: (reason: Error) => void): () => void {
    return onAbort(this.signal, listener);
  }

  end(reason: Error): void {
    this.reason = reason;
    this.ended.resolve(reason);
    this.#controller.abort(reason);
  }

  /** Its client is done. */
  finish(): void {
    this.#controller.abort();
  }
}

const refuse = (error: DomainError): Error => new Error(`refused: ${error.message}`);

describe("a token's expiry", () => {
  it("ends the call", async () => {
    const call = new TestCall();
    endAtExpiry(call, { name: "a", scopes: [], expiresAtMs: Date.now() + 50 }, refuse);
    const reason = await within(10_000, "the end", call.ended.promise);
    expect(reason.message).toBe("refused: token expired");
  });

  it("in the past ends the call at once", async () => {
    const call = new TestCall();
    endAtExpiry(call, { name: "a", scopes: [], expiresAtMs: 0 }, refuse);
    await within(10_000, "the end", call.ended.promise);
  });

  it.each([
    ["absent", undefined],
    // Node's timers hold 2^31 - 1 ms and fire at once beyond.
    ["further away than a timer reaches", 2 ** 31 + 60_000],
    ["further away than a date reaches", Infinity],
  ])("that is %s leaves the call alone", async (_, inMs) => {
    const call = new TestCall();
    const principal = { name: "a", scopes: [], ...(inMs !== undefined && { expiresAtMs: Date.now() + inMs }) };
    endAtExpiry(call, principal, refuse);
    const short = new TestCall();
    endAtExpiry(short, { name: "b", scopes: [], expiresAtMs: Date.now() + 50 }, refuse);
    await within(10_000, "the end of the short one", short.ended.promise);
    expect(call.reason).toBeUndefined();
    call.finish();
  });

  it("that was far away when the call began still ends it", async () => {
    const call = new TestCall();
    let now = 0;
    // The clock is set forward, as by NTP after a boot, while the timer runs.
    endAtExpiry(call, { name: "a", scopes: [], expiresAtMs: 50 }, refuse, () => (now += 20));
    await within(10_000, "the end", call.ended.promise);
    expect(now).toBeGreaterThanOrEqual(50);
  });
});

describe("admitted calls", () => {
  const principal: Principal = { name: "a", scopes: ["greet", "admin"], expiresAtMs: 1000 };
  const reasons = { refused: refuse, changed: () => new Error("changed") };
  const invalid = new DomainError({ kind: "unauthenticated", detail: "invalid token" });

  function admit(calls: AdmittedCalls, token = "t"): TestCall {
    const call = new TestCall();
    calls.add(call, token, principal);
    return call;
  }

  it("end when their token is refused, and no others", async () => {
    const calls = new AdmittedCalls();
    const [one, two, other] = [admit(calls), admit(calls), admit(calls, "other")];
    await calls.recheck((token) => (token === "t" ? Promise.reject(invalid) : Promise.resolve(principal)), reasons);
    for (const call of [one, two]) expect(call.reason?.message).toBe("refused: invalid token");
    expect(other.reason).toBeUndefined();
  });

  it.each<[what: string, now: Principal, changed: boolean]>([
    ["nothing", { ...principal }, false],
    ["the name", { ...principal, name: "b" }, false],
    ["the scopes' order", { ...principal, scopes: ["admin", "greet", "admin"] }, false],
    ["a scope less", { ...principal, scopes: ["greet"] }, true],
    ["a scope more", { ...principal, scopes: ["greet", "admin", "data:read:*"] }, true],
    ["the expiry", { ...principal, expiresAtMs: 2000 }, true],
    ["no expiry any more", { name: "a", scopes: principal.scopes }, true],
  ])("with a change of %s", async (_, now, changed) => {
    const calls = new AdmittedCalls();
    const call = admit(calls);
    await calls.recheck(() => Promise.resolve(now), reasons);
    expect(call.reason?.message).toBe(changed ? "changed" : undefined);
  });

  it("go on while it cannot be told whether their token is valid", async () => {
    const calls = new AdmittedCalls();
    const call = admit(calls);
    await calls.recheck(() => Promise.reject(new DomainError({ kind: "keys-unavailable" })), reasons);
    expect(call.reason).toBeUndefined();
  });

  it("that are over are forgotten", async () => {
    const calls = new AdmittedCalls();
    const [one, two] = [admit(calls), admit(calls, "other")];
    one.finish();
    const asked: string[] = [];
    const verify = (token: string): Promise<Principal> => {
      asked.push(token);
      return Promise.resolve(principal);
    };
    await calls.recheck(verify, reasons);
    two.finish();
    await calls.recheck(verify, reasons);
    expect(asked).toEqual(["other"]);
  });

  it("go on to be checked when another on their token is over", async () => {
    const calls = new AdmittedCalls();
    const [over, running] = [admit(calls), admit(calls)];
    over.finish();
    await calls.recheck(() => Promise.reject(invalid), reasons);
    expect(running.reason?.message).toBe("refused: invalid token");
  });

  it("end when two scopes become one that reads the same", async () => {
    const calls = new AdmittedCalls();
    const call = new TestCall();
    calls.add(call, "t", { name: "a", scopes: ["data:read:a", "greet"] });
    await calls.recheck(() => Promise.resolve({ name: "a", scopes: ["data:read:agreet"] }), reasons);
    expect(call.reason?.message).toBe("changed");
  });

  it("ask once for a token, however many calls run on it", async () => {
    const calls = new AdmittedCalls();
    for (let i = 0; i < 100; i++) admit(calls);
    let asked = 0;
    await calls.recheck(() => Promise.resolve((asked++, principal)), reasons);
    expect(asked).toBe(1);
  });
});
