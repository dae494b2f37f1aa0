import { Code, ConnectError } from "@connectrpc/connect";
import type { Interceptor } from "@connectrpc/connect";
import { linkSignals } from "../async/signals.ts";

/**
 * Cancels a streaming call whose responses are left early, as with `break` in a
 * `for await`. Connect alone would let the server go on to the end.
 */
export const cancelOnReturn: Interceptor = (next) => async (req) => {
  if (!req.stream) return next(req);
  const call = linkSignals(req.signal);
  let response: Awaited<ReturnType<typeof next>>;
  try {
    response = await next({ ...req, signal: call.signal });
  } catch (error) {
    call.cleanup();
    throw error;
  }
  if (!response.stream) return response;
  const { message } = response;
  return {
    ...response,
    message: {
      [Symbol.asyncIterator]() {
        const it = message[Symbol.asyncIterator]();
        const leave = (): void => {
          call.abort(new ConnectError("the responses were left", Code.Canceled));
        };
        return {
          async next() {
            try {
              const result = await it.next();
              if (result.done === true) call.cleanup();
              return result;
            } catch (error) {
              call.cleanup();
              throw error;
            }
          },
          return(value?: unknown) {
            leave();
            // Not awaited: the transport ends on the signal, and has nothing more to say.
            it.return?.().catch(() => undefined);
            return Promise.resolve({ done: true as const, value });
          },
          throw(error?: unknown) {
            leave();
            it.throw?.(error).catch(() => undefined);
            return Promise.reject(error as Error);
          },
        };
      },
    },
  };
};
