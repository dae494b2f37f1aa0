import type { Interceptor } from "@connectrpc/connect";
import { principalKey } from "./principal.ts";
import { requireScope } from "./scopes.ts";

/**
 * Checks that an admitted call has the scope of its service. GreetService needs
 * `greet`; DataService checks each stream by its name, which only the body tells.
 */
export function createAuthInterceptor(): Interceptor {
  return (next) => (req) => {
    if (req.service.typeName === "greet.v1.GreetService") {
      requireScope(req.contextValues.get(principalKey), { kind: "greet" });
    }
    return next(req);
  };
}
