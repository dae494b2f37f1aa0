import { create } from "@bufbuild/protobuf";
import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type {
  HandlerContext,
  Interceptor,
  MethodImplSpec,
  StreamRequest,
  StreamResponse,
  UnaryRequest,
  UnaryResponse,
} from "@connectrpc/connect";

import { withSignal } from "./lazy-signal.ts";

type UnarySpec = Extract<MethodImplSpec, { kind: "unary" }>;
type StreamingSpec = Exclude<MethodImplSpec, UnarySpec>;

/** What the interceptors are given, and what they hand on. */
type Next<Req, Res> = (req: Req) => Promise<Res>;

/** What a call is answered with. */
export type Responses = Pick<StreamResponse, "header" | "trailer"> & { readonly message: AsyncIterable<unknown> };

export interface Invocation {
  readonly spec: MethodImplSpec;
  readonly context: HandlerContext;
  readonly input: AsyncIterable<unknown>;
  readonly interceptors: readonly Interceptor[];
  /** The handler has been called, and has done what it does before its first wait. */
  readonly onStarted: () => void;
}

/** Calls the handler of a method, through the interceptors. */
export function invoke(invocation: Invocation): Promise<Responses> {
  const { spec } = invocation;
  return spec.kind === "unary" ? invokeUnary(spec, invocation) : invokeStream(spec, invocation);
}

async function invokeUnary(spec: UnarySpec, { context, input, interceptors }: Invocation): Promise<Responses> {
  const { method } = spec;
  const message = (await single(input, "unary")) as UnaryRequest["message"];
  const innermost: Next<UnaryRequest, UnaryResponse> = async (req) => ({
    stream: false,
    service: method.parent,
    method,
    header: context.responseHeader,
    trailer: context.responseTrailer,
    message: create(method.output, await spec.impl(req.message, contextFor(req, context))),
  });
  const request: UnaryRequest = withSignal({ ...requestOf(spec, context), stream: false, message, method }, context);
  const response = await through(interceptors, innermost)(request);
  return { header: response.header, trailer: response.trailer, message: one(response.message) };
}

function invokeStream(spec: StreamingSpec, invocation: Invocation): Promise<Responses> {
  const { context, input, interceptors, onStarted } = invocation;
  const { method } = spec;
  const innermost: Next<StreamRequest, StreamResponse> = async (req) =>
    ({
      stream: true,
      service: method.parent,
      method,
      header: context.responseHeader,
      trailer: context.responseTrailer,
      message: await responses(spec, req.message as AsyncIterable<never>, contextFor(req, context), onStarted),
    }) as StreamResponse;
  const request = withSignal({ ...requestOf(spec, context), stream: true, message: input }, context);
  return through(interceptors, innermost)(request as StreamRequest);
}

function through<Req, Res>(interceptors: readonly Interceptor[], innermost: Next<Req, Res>): Next<Req, Res> {
  return interceptors.reduceRight(
    (next, interceptor) => interceptor(next as never) as unknown as Next<Req, Res>,
    innermost,
  );
}

/** What the interceptors get of a call besides its messages and its signal. */
function requestOf(spec: MethodImplSpec, context: HandlerContext) {
  return {
    service: spec.method.parent,
    method: spec.method,
    requestMethod: context.requestMethod,
    url: context.url,
    header: context.requestHeader,
    contextValues: context.values,
  };
}

/** What the handler gets, after the interceptors. A signal is made when it is asked for. */
function contextFor(req: UnaryRequest | StreamRequest, context: HandlerContext): HandlerContext {
  return withSignal(
    {
      service: req.service,
      method: context.method,
      requestMethod: context.requestMethod,
      url: context.url,
      protocolName: context.protocolName,
      timeoutMs: context.timeoutMs,
      requestHeader: req.header,
      responseHeader: context.responseHeader,
      responseTrailer: context.responseTrailer,
      values: req.contextValues,
    },
    req,
  );
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
      return complete(output, spec.impl(await single(input, "server-streaming"), context), onStarted);
    case "bidi_streaming":
      return complete(output, spec.impl(input, context), onStarted);
    case "client_streaming": {
      const pending = spec.impl(input, context);
      onStarted();
      return one(toMessage(output, await pending));
    }
  }
}

/** The one request of a call. */
async function single<T>(input: AsyncIterable<T>, kind: string): Promise<T> {
  const it = input[Symbol.asyncIterator]();
  const first = await it.next();
  if (first.done === true) {
    throw new ConnectError(`protocol error: missing input message for ${kind} method`, Code.Unimplemented);
  }
  if ((await it.next()).done !== true) {
    throw new ConnectError(`protocol error: received extra input message for ${kind} method`, Code.Unimplemented);
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
      const toMessages = (result: IteratorResult<MessageInitShape<DescMessage>>): IteratorResult<unknown> => {
        if (result.done === true) return result;
        const value = toMessage(desc, result.value);
        return value === result.value ? result : { done: false, value };
      };
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
