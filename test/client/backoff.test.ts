import { Code, ConnectError } from "@connectrpc/connect";
import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { Backoff, causeCode, isBroken } from "../../src/client/retry.ts";
import type { RetryPolicy } from "../../src/client/retry.ts";
import { within } from "../support/deadline.ts";

/** As the transport makes it when it breaks, or as it comes from a server. */
function failure(code: Code, from: "transport" | "server" = "transport", headers = {}): ConnectError {
  const error = new ConnectError("failed", code, headers);
  error.isWireError = from === "server";
  return error;
}

const broken = failure(Code.Unavailable);
const caused = (cause: unknown): ConnectError => new ConnectError("failed", Code.Unavailable, {}, [], cause);
const systemError = (code: unknown, cause?: unknown): Error => Object.assign(new Error("failed", { cause }), { code });

/** Waits until it fails; returns the delays, and what it failed with. */
async function delaysOf(backoff: Backoff, delays: number[], error: unknown = broken): Promise<unknown> {
  const untilItFails = async (): Promise<unknown> => {
    for (;;) {
      try {
        await backoff.wait(error, undefined);
      } catch (final) {
        return final;
      }
    }
  };
  return within(10_000, `the end of the attempts after ${delays.length}`, untilItFails());
}

function recording(options: Partial<RetryPolicy>): { backoff: Backoff; delays: number[]; attempts: number[] } {
  const delays: number[] = [];
  const attempts: number[] = [];
  const backoff = new Backoff(options, (_, attempt, delayMs) => {
    delays.push(delayMs);
    attempts.push(attempt);
  });
  return { backoff, delays, attempts };
}

describe("a failure is retried", () => {
  it.each([
    Code.Unavailable,
    Code.Aborted,
    Code.Unknown,
    Code.Internal,
    Code.DataLoss,
    Code.InvalidArgument,
    Code.Canceled,
    Code.ResourceExhausted,
  ])("if the transport broke with code %i; from a server only UNAVAILABLE", (code) => {
    expect(isBroken(failure(code))).toBe(true);
    expect(isBroken(failure(code, "server"))).toBe(code === Code.Unavailable);
  });

  it.each([Code.DeadlineExceeded, Code.Unauthenticated, Code.Unimplemented, Code.NotFound, Code.PermissionDenied])(
    "never with code %i",
    (code) => {
      expect(isBroken(failure(code))).toBe(false);
      expect(isBroken(failure(code, "server"))).toBe(false);
    },
  );

  it.each<[retryAfter: string, retried: boolean]>([
    ["1", true],
    ["120", true],
    ["999999", true],
    ["1000000", false],
    ["0", false],
    ["", false],
    ["-1", false],
    ["1.5", false],
    ["x1", false],
    ["1x", false],
    ["Wed, 21 Oct 2015 07:28:00 GMT", false],
  ])("if a server is exhausted and says Retry-After: %j (%s)", (retryAfter, retried) => {
    const headers = { "retry-after": retryAfter };
    expect(isBroken(failure(Code.ResourceExhausted, "server", headers))).toBe(retried);
    expect(isBroken(failure(Code.FailedPrecondition, "server", headers))).toBe(false);
  });

  it.each<[code: string, retried: boolean]>([
    ["ECONNREFUSED", true],
    ["ECONNRESET", true],
    ["CERT_HAS_EXPIRED", false],
    ["DEPTH_ZERO_SELF_SIGNED_CERT", false],
    ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", false],
    ["ERR_TLS_CERT_ALTNAME_INVALID", false],
    ["ERR_SSL_WRONG_VERSION_NUMBER", false],
    ["ERR_INVALID_URL", false],
    ["EPROTO", false],
  ])("if its cause is %s: %s", (code, retried) => {
    expect(isBroken(caused(systemError(code)))).toBe(retried);
  });
});

describe("the code of a cause", () => {
  it("is that of the outermost error that has one as text", () => {
    expect(causeCode(caused(systemError("EPIPE", systemError("ECONNRESET"))))).toBe("EPIPE");
    expect(causeCode(systemError(7, systemError("ECONNRESET")))).toBe("ECONNRESET");
  });

  it("is empty without one, and for what is no error", () => {
    for (const none of [broken, new Error("plain"), undefined, null, "ECONNRESET", { code: "ECONNRESET" }]) {
      expect(causeCode(none)).toBe("");
    }
  });

  it("is looked for five errors deep, and no deeper", () => {
    const behind = (depth: number): Error =>
      Array.from({ length: depth }).reduce<Error>((cause) => new Error("outer", { cause }), systemError("ECONNRESET"));
    expect(causeCode(behind(4))).toBe("ECONNRESET");
    expect(causeCode(behind(5))).toBe("");
  });
});

describe("a backoff", () => {
  it("gives up after the attempts, counts them, and begins anew after progress", async () => {
    const { backoff, delays, attempts } = recording({ attempts: 3, baseDelayMs: 0 });
    expect(await delaysOf(backoff, delays)).toBe(broken);
    expect(attempts).toEqual([1, 2, 3]);
    expect(await delaysOf(backoff, delays)).toBe(broken);
    expect(attempts).toEqual([1, 2, 3]);
    backoff.reset();
    expect(await delaysOf(backoff, delays)).toBe(broken);
    expect(attempts).toEqual([1, 2, 3, 1, 2, 3]);
  });

  it("draws delays from twice the range each time, up to the maximum", async () => {
    const runs = Array.from({ length: 100 }, () => recording({ attempts: 5, baseDelayMs: 1, maxDelayMs: 5 }));
    await Promise.all(runs.map(({ backoff, delays }) => delaysOf(backoff, delays)));
    for (const [attempt, bound] of [1, 2, 4, 5, 5].entries()) {
      const drawn = runs.map(({ delays }) => delays[attempt] ?? NaN);
      expect(Math.max(...drawn)).toBeLessThanOrEqual(bound);
      // All of 100 in one half: a chance of 2^-99.
      expect(Math.max(...drawn)).toBeGreaterThan(bound / 2);
      expect(Math.min(...drawn)).toBeLessThan(bound / 2);
    }
  });

  it("has ten attempts of at most five seconds, by default", async () => {
    const { backoff, attempts, delays } = recording({ baseDelayMs: 0 });
    await delaysOf(backoff, delays);
    expect(attempts).toHaveLength(10);
  });

  it("gives up when the time is used up, which no delay exceeds, and has it anew after progress", async () => {
    const maxElapsedMs = 30;
    const { backoff, delays } = recording({ attempts: Infinity, baseDelayMs: 20, maxDelayMs: 20, maxElapsedMs });
    for (let run = 0; run < 2; run++) {
      const beginMs = performance.now();
      expect(await delaysOf(backoff, delays)).toBe(broken);
      // Node's timers may fire a fraction of a millisecond early.
      expect(performance.now() - beginMs).toBeGreaterThanOrEqual(maxElapsedMs - 1);
      expect(delays.splice(0).reduce((sum, delay) => sum + delay, 0)).toBeLessThanOrEqual(maxElapsedMs + 1);
      backoff.reset();
    }
    const none = recording({ maxElapsedMs: 0 });
    expect(await delaysOf(none.backoff, none.delays)).toBe(broken);
    expect(none.delays).toEqual([]);
  });

  it("waits as long as a busy server asks for, also longer than its own maximum", async () => {
    const stop = new AbortController();
    const delays: number[] = [];
    const backoff = new Backoff({ maxDelayMs: 10 }, (_, __, delayMs) => {
      delays.push(delayMs);
      stop.abort(new Error("seen"));
    });
    const busy = failure(Code.ResourceExhausted, "server", { "retry-after": "3" });
    await expect(within(10_000, "the end", backoff.wait(busy, stop.signal))).rejects.toThrow("seen");
    expect(delays).toEqual([3000]);
  });

  it("does not retry what is final, nor once its signal is aborted, and rethrows the error as it is", async () => {
    const { backoff, delays } = recording({});
    const final = failure(Code.NotFound, "server");
    await expect(backoff.wait(final, undefined)).rejects.toBe(final);
    await expect(backoff.wait(broken, AbortSignal.abort(new Error("stopped")))).rejects.toBe(broken);
    expect(delays).toEqual([]);
  });

  it("ends with the reason of the client's end, before a wait and during one, and leaves no listeners", async () => {
    const closing = new AbortController();
    const call = new AbortController();
    const { backoff, delays } = recording({ baseDelayMs: 1e9, maxDelayMs: 1e9, closed: closing.signal });
    const waiting = backoff.wait(broken, call.signal);
    expect(delays).toHaveLength(1);
    closing.abort(new Error("the client was closed"));
    await expect(within(10_000, "the end of the wait", waiting)).rejects.toThrow("the client was closed");
    expect(getEventListeners(call.signal, "abort")).toHaveLength(0);
    await expect(backoff.wait(broken, call.signal)).rejects.toThrow("the client was closed");
    expect(delays).toHaveLength(1);
  });

  it("leaves no listeners after a wait", async () => {
    const closing = new AbortController();
    const call = new AbortController();
    await new Backoff({ baseDelayMs: 0, closed: closing.signal }, undefined).wait(broken, call.signal);
    for (const { signal } of [closing, call]) expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });
});
