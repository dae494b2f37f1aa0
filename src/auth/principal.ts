import { createContextKey } from "@connectrpc/connect";
import type { ContextKey } from "@connectrpc/connect";

/** Who makes a call, and what the token allows. */
export interface Principal {
  /** The name of the token, for logs. Never the token. */
  readonly name: string;
  /** `greet`, `data:read:PREFIX*`, `data:write:PREFIX*`, `rpc:PREFIX*`, `admin`. */
  readonly scopes: readonly string[];
  /** When the token ends, in milliseconds since the Unix epoch. Absent: never. */
  readonly expiresAtMs?: number;
}

/** Set by the request gate on every call that it admits with a token. */
export const principalKey: ContextKey<Principal | undefined> = createContextKey<Principal | undefined>(undefined, {
  description: "who makes the call",
});
