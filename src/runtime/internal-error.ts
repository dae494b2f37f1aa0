import { Code, ConnectError } from "@connectrpc/connect";

/** A ConnectError stays as it is; what else was thrown is a bug, and nothing of it goes to the peer. */
export function internalUnlessKnown(reason: unknown): ConnectError {
  return reason instanceof ConnectError
    ? reason
    : new ConnectError("internal error", Code.Internal, undefined, undefined, reason);
}
