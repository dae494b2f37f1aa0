import type {
  DescMessage,
  DescMethodStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { CallOptions, Client, StreamResponse, Transport } from "@connectrpc/connect";
import { linkSignals } from "../async/signals.ts";

/**
 * The generated stubs, except that leaving the responses of a call early, as
 * with `break` in a `for await`, cancels it. Connect's own iterables take no
 * notice of that, and the server goes on to the end; they also put several
 * generators between the transport and the loop.
 */
export function createStreamingClient<S extends DescService>(service: S, transport: Transport): Client<S> {
  const client = createClient(service, transport);
  const stubs: Record<string, unknown> = { ...client };
  for (const method of service.methods as readonly (DescMethodUnary | DescMethodStreaming)[]) {
    if (method.methodKind === "server_streaming") {
      stubs[method.localName] = (request: MessageInitShape<DescMessage>, options?: CallOptions) =>
        responses(transport, method, one(request), options);
    } else if (method.methodKind === "bidi_streaming") {
      stubs[method.localName] = (requests: AsyncIterable<MessageInitShape<DescMessage>>, options?: CallOptions) =>
        responses(transport, method, requests, options);
    }
  }
  return stubs as Client<S>;
}

async function* one<T>(value: T): AsyncGenerator<T> {
  yield await Promise.resolve(value);
}

/** Makes the call at once, as Connect's clients do. */
function responses(
  transport: Transport,
  method: DescMethodStreaming,
  requests: AsyncIterable<MessageInitShape<DescMessage>>,
  options: CallOptions = {},
): AsyncIterable<MessageShape<DescMessage>> {
  const { headers, timeoutMs, contextValues } = options;
  const call = linkSignals(options.signal);
  const started = transport.stream(method, call.signal, timeoutMs, headers, requests, contextValues);
  // The failure is told to whoever reads.
  started.catch(() => undefined);
  let response: StreamResponse | undefined;
  let messages: AsyncIterator<MessageShape<DescMessage>> | undefined;

  const begin = async (): Promise<AsyncIterator<MessageShape<DescMessage>>> => {
    response = await started;
    options.onHeader?.(response.header);
    return (messages = response.message[Symbol.asyncIterator]());
  };
  const ended = (result: IteratorResult<MessageShape<DescMessage>>): typeof result => {
    if (result.done === true) {
      call.cleanup();
      if (response !== undefined) options.onTrailer?.(response.trailer);
      response = undefined;
    }
    return result;
  };
  const failed = (error: unknown): never => {
    call.cleanup();
    throw error;
  };
  const leave = (): void => {
    call.abort(new ConnectError("the responses were left", Code.Canceled));
    // The transport then fails, and nobody is there to hear it.
    messages?.next().catch(() => undefined);
  };
  let beginning: Promise<AsyncIterator<MessageShape<DescMessage>>> | undefined;
  return {
    [Symbol.asyncIterator]: () => ({
      next() {
        const next = messages?.next() ?? (beginning ??= begin()).then((it) => it.next());
        return next.then(ended, failed);
      },
      return(value?: unknown) {
        leave();
        return Promise.resolve({ done: true as const, value });
      },
      throw(error?: unknown) {
        leave();
        return Promise.reject(error);
      },
    }),
  };
}
