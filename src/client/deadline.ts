import { Code, ConnectError } from "@connectrpc/connect";
import type { Transport } from "@connectrpc/connect";

/** The time, as performance.now() has it, at which a call that begins now must be over. */
export function deadlineAfter(timeoutMs: number | undefined): number | undefined {
  return timeoutMs === undefined || timeoutMs <= 0 ? undefined : performance.now() + timeoutMs;
}

/**
 * A server knows the deadline too, and resets the stream when it has come. That
 * may be here before the client's own timer has run, and still is the deadline.
 */
export function orDeadline(error: ConnectError, deadline: number | undefined): ConnectError {
  if (deadline === undefined || error.code !== Code.Canceled || error.isWireError) return error;
  if (performance.now() < deadline) return error;
  return new ConnectError("the operation timed out", Code.DeadlineExceeded, error.metadata, undefined, error);
}

/** The unary half of a transport, which tells the deadline from a reset. */
export function withDeadline(
  transport: Pick<Transport, "unary">,
  defaultTimeoutMs: number | undefined,
): Transport["unary"] {
  return async (method, signal, timeoutMs, ...rest) => {
    const deadline = deadlineAfter(timeoutMs ?? defaultTimeoutMs);
    try {
      return await transport.unary(method, signal, timeoutMs, ...rest);
    } catch (error) {
      throw error instanceof ConnectError && signal?.aborted !== true ? orDeadline(error, deadline) : error;
    }
  };
}
