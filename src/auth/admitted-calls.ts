import { isDomainError } from "../errors.ts";
import type { DomainError } from "../errors.ts";
import type { EndableCall } from "./expiry.ts";
import type { Principal } from "./principal.ts";

/** Why calls are ended. */
export interface EndReasons {
  /** The token is not valid any more. */
  readonly refused: (error: DomainError) => Error;
  /** The token is valid, but its scopes or its expiry are others than when the call began. */
  readonly changed: () => Error;
}

interface AdmittedCall extends EndableCall {
  /** Calls the listener once the call is over, at once if it is. */
  onAbort(listener: (reason: Error) => void): void;
}

interface Admitted {
  readonly call: EndableCall;
  readonly principal: Principal;
}

/** The calls that run on tokens, so that they end when their tokens are withdrawn. */
export class AdmittedCalls {
  readonly #byToken = new Map<string, Set<Admitted>>();

  /** Remembers a call until it is over. */
  add(call: AdmittedCall, token: string, principal: Principal): void {
    const calls = this.#byToken.get(token) ?? new Set();
    this.#byToken.set(token, calls);
    const admitted = { call, principal };
    calls.add(admitted);
    call.onAbort(() => {
      calls.delete(admitted);
      if (calls.size === 0) this.#byToken.delete(token);
    });
  }

  /** Checks every token again, and ends the calls that would not be admitted as they were. */
  async recheck(verify: (token: string) => Promise<Principal>, reasons: EndReasons): Promise<void> {
    const tokens = [...this.#byToken.keys()];
    await Promise.all(tokens.map((token) => this.#recheck(token, verify, reasons)));
  }

  async #recheck(
    token: string,
    verify: (token: string) => Promise<Principal>,
    { refused, changed }: EndReasons,
  ): Promise<void> {
    try {
      const now = await verify(token);
      for (const { call, principal } of [...(this.#byToken.get(token) ?? [])]) {
        if (!sameRights(now, principal)) call.end(changed());
      }
    } catch (error) {
      // Keys that cannot be read just now say nothing about the token.
      if (!isDomainError(error, "unauthenticated")) return;
      for (const { call } of [...(this.#byToken.get(token) ?? [])]) call.end(refused(error));
    }
  }
}

function sameRights(a: Principal, b: Principal): boolean {
  const scopesOf = (principal: Principal): string => [...new Set(principal.scopes)].sort().join(" ");
  return a.expiresAtMs === b.expiresAtMs && scopesOf(a) === scopesOf(b);
}
