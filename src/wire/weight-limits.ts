import { Code, ConnectError } from "@connectrpc/connect";

/** Messages up to this length are not weighed: whatever they hold is little, and to look would cost more. */
export const unweighedBytes = 128;

/** Fails a message that has more elements than the limit. */
export function countBounded(elements: number, maxElements: number): void {
  if (elements <= maxElements) return;
  throw new ConnectError(
    `the message has more than ${maxElements} fields, map entries and repeated elements: send fewer in one message`,
    Code.ResourceExhausted,
  );
}

export function tooDeep(maxDepth: number): ConnectError {
  return new ConnectError(`the message is nested more than ${maxDepth} levels deep`, Code.InvalidArgument);
}
