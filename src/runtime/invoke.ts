import { create } from "@bufbuild/protobuf";
import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { HandlerContext, Interceptor, StreamRequest, StreamResponse, UnaryRequest } from "@connectrpc/connect";
import type { StreamingSpec } from "./routes.ts";

/** What the interceptors are given, and what they hand on. */
type Next = (req: UnaryRequest | StreamRequest) => Promise<StreamResponse>;

export interface Invocation {
  readonly spec: StreamingSpec;
  readonly context: HandlerContext;
  readonly input: AsyncIterable<unknown>;
  readonly interceptors: readonly Interceptor[];
  /** The handler has been called, and has done what it does before its first wait. */
  readonly onStarted: () => void;
}

/** Calls the handler of a streaming method, through the interceptors. */
export async function invoke(invocation: Invocation): Promise<StreamResponse> {
  const { spec, context, input, interceptors, onStarted } = invocation;
  const { method } = spec;
  const innermost: Next = async (req) => {
    const handlerContext: HandlerContext = {
      ...context,
      service: req.service,
      requestHeader: req.header,
      signal: req.signal,
      values: req.contextValues,
    };
    return {
      stream: true,
      service: method.parent,
      method,
      header: context.responseHeader,
      trailer: context.responseTrailer,
      message: await responses(spec, req.message as AsyncIterable<never>, handlerContext, onStarted),
    } as StreamResponse;
  };
  const chain = interceptors.reduceRight((next, interceptor) => interceptor(next as never) as Next, innermost);
  return chain({
    stream: true,
    service: method.parent,
    method,
    requestMethod: context.requestMethod,
    url: context.url,
    signal: context.signal,
    header: context.requestHeader,
    contextValues: context.values,
    message: input,
  } as StreamRequest);
}

async function responses(
  spec: StreamingSpec,
  input: AsyncIterable<never>,
  context: HandlerContext,
  onStarted: () => void,
): Promise<AsyncIterable<unknown>> {
  const { output } = spec.method;
  switch (spec.kind) {
    case "server_streaming":
      return complete(output, spec.impl(await single(input), context), onStarted);
    case "bidi_streaming":
      return complete(output, spec.impl(input, context), onStarted);
    case "client_streaming": {
      const pending = spec.impl(input, context);
      onStarted();
      return one(toMessage(output, await pending));
    }
  }
}

/** The request of a server-streaming call. */
async function single<T>(input: AsyncIterable<T>): Promise<T> {
  const it = input[Symbol.asyncIterator]();
  const first = await it.next();
  if (first.done === true) {
    throw new ConnectError("protocol error: missing input message for server-streaming method", Code.Unimplemented);
  }
  if ((await it.next()).done !== true) {
    throw new ConnectError(
      "protocol error: received extra input message for server-streaming method",
      Code.Unimplemented,
    );
  }
  return first.value;
}

/** Handlers may yield plain objects: interceptors and the wire get messages. */
function complete(
  desc: DescMessage,
  messages: AsyncIterable<MessageInitShape<DescMessage>>,
  onStarted: () => void,
): AsyncIterable<unknown> {
  return {
    [Symbol.asyncIterator]() {
      const it = messages[Symbol.asyncIterator]();
      const toMessages = (result: IteratorResult<MessageInitShape<DescMessage>>): IteratorResult<unknown> =>
        result.done === true ? result : { done: false, value: toMessage(desc, result.value) };
      let started = false;
      return {
        next() {
          const pending = it.next().then(toMessages);
          if (!started) {
            started = true;
            onStarted();
          }
          return pending;
        },
        return: (value?: unknown) => it.return?.(value) ?? Promise.resolve({ done: true, value: undefined }),
        throw: (error?: unknown) => it.throw?.(error) ?? Promise.reject(error),
      };
    },
  };
}

async function* one<T>(message: T): AsyncGenerator<T> {
  yield message;
}

function toMessage(desc: DescMessage, init: MessageInitShape<DescMessage>): unknown {
  return (init as { $typeName?: string }).$typeName === desc.typeName ? init : create(desc, init);
}
