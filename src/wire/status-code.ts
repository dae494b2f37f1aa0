import { Code } from "@connectrpc/connect";

const codesOfStatus: Readonly<Record<number, Code>> = {
  400: Code.InvalidArgument,
  401: Code.Unauthenticated,
  403: Code.PermissionDenied,
  404: Code.NotFound,
  409: Code.Aborted,
  412: Code.FailedPrecondition,
  429: Code.ResourceExhausted,
  500: Code.Internal,
  501: Code.Unimplemented,
  502: Code.Unavailable,
  503: Code.Unavailable,
  504: Code.DeadlineExceeded,
};

/** The code of an RPC that an HTTP status comes closest to, for an answer that says nothing else. */
export function codeOfStatus(status: number): Code {
  return codesOfStatus[status] ?? Code.Unknown;
}
