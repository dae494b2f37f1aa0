import { Code, ConnectError } from "@connectrpc/connect";
import { printable } from "../clip.ts";
import type { HttpExchange } from "./exchange.ts";
import { refuse } from "./refuse.ts";

/**
 * Makes the check that comes before everything else: whether the server answers to the host that a request names. It
 * answers those that are refused, with 421 (RFC 9110, section 15.5.20), and returns whether it has.
 *
 * `Host` beside `:authority` must be the same (RFC 9113, section 8.3.1, and RFC 9114, section 4.3.1); beside a target
 * in absolute form it is checked too, although that overrides it: a client that names two hosts may have been misled.
 */
export function createHostGuard(
  allows: (authority: string | undefined) => boolean,
  onRefused: (host: string) => void,
): (exchange: HttpExchange) => boolean {
  return (exchange) => {
    const { authority, header, httpVersion } = exchange;
    const host = header.get("host") ?? authority;
    if (!allows(authority) || !allows(host)) {
      const refused = allows(authority) ? host : authority;
      onRefused(printable(refused ?? ""));
      refuse(exchange, 421, new ConnectError(messageOf(refused), Code.PermissionDenied));
      return true;
    }
    if (host?.toLowerCase() !== authority?.toLowerCase() && !httpVersion.startsWith("1.")) {
      refuse(exchange, 400, new ConnectError("`Host` and `:authority` name two hosts", Code.InvalidArgument));
      return true;
    }
    return false;
  };
}

function messageOf(host: string | undefined): string {
  const advice = "call it as localhost or 127.0.0.1, or add the host to --allowed-hosts of the server";
  return host === undefined || host === ""
    ? `the request names no host, and this server answers to certain hosts only: ${advice}`
    : `this server does not answer to the host "${printable(host)}": ${advice}`;
}
