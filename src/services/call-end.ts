import type { HandlerContext } from "@connectrpc/connect";
import { onAbort } from "../async/signals.ts";
import { callKey } from "../runtime/call.ts";

/** How a call ends. The runtime's `Call` is one; a signal would be made for each of many calls that only wait. */
export interface CallEnd {
  /** Calls the listener once with the reason, at once if the call has ended. Returns the cleanup. */
  onAbort(listener: (reason: Error) => void): () => void;
}

/** Makes the call's signal only where the runtime is another. */
export function callEndOf(context: HandlerContext): CallEnd {
  return context.values.get(callKey) ?? { onAbort: (listener) => onAbort(context.signal, listener) };
}
