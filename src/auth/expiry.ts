import { sleep } from "../async/signals.ts";
import { DomainError } from "../errors.ts";
import type { Principal } from "./principal.ts";

/** What is needed of a call to end it. */
export interface EndableCall {
  readonly signal: AbortSignal;
  end(reason: Error): void;
}

/** The longest wait that a Node timer takes, in milliseconds (2^31 - 1). */
const maxWaitMs = 2_147_483_647;

/** Ends the call with `expired()` when the principal's token expires. */
export function endAtExpiry(
  call: EndableCall,
  principal: Principal,
  expired: (error: DomainError) => Error,
  now: () => number = Date.now,
): void {
  const { expiresAtMs } = principal;
  if (expiresAtMs === undefined) return;
  const wait = async (): Promise<void> => {
    for (let left = expiresAtMs - now(); left > 0; left = expiresAtMs - now()) {
      await sleep(Math.min(left, maxWaitMs), call.signal);
    }
    call.end(expired(new DomainError({ kind: "unauthenticated", detail: "token expired" })));
  };
  // The wait fails only when the call is over, and then there is nothing to end.
  wait().catch(() => undefined);
}
