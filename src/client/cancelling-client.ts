import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { CallOptions, Client, Transport } from "@connectrpc/connect";
import { linkSignals } from "../async/signals.ts";

type Stub = (request: unknown, options?: CallOptions) => AsyncIterable<unknown>;

/**
 * The generated stubs, except that leaving the responses of a call early, as
 * with `break` in a `for await`, cancels it. Connect's own iterables take no
 * notice of that, and the server goes on to the end.
 */
export function createCancellingClient<S extends DescService>(service: S, transport: Transport): Client<S> {
  const client = createClient(service, transport);
  const stubs: Record<string, unknown> = { ...client };
  for (const { methodKind, localName } of service.methods) {
    if (methodKind !== "server_streaming" && methodKind !== "bidi_streaming") continue;
    const stub = stubs[localName] as Stub;
    stubs[localName] = (request: unknown, options?: CallOptions) => cancelOnReturn(stub, request, options);
  }
  return stubs as Client<S>;
}

function cancelOnReturn(stub: Stub, request: unknown, options: CallOptions = {}): AsyncIterable<unknown> {
  const call = linkSignals(options.signal);
  const responses = stub(request, { ...options, signal: call.signal });
  return {
    [Symbol.asyncIterator]() {
      const it = responses[Symbol.asyncIterator]();
      const leave = (): void => {
        call.abort(new ConnectError("the responses were left", Code.Canceled));
        // The transport then fails, and nobody is there to hear it.
        it.next().catch(() => undefined);
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
          return Promise.resolve({ done: true as const, value });
        },
        throw(error?: unknown) {
          leave();
          return Promise.reject(error);
        },
      };
    },
  };
}
