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

import { hasSignalOf, withSignal } from "./lazy-signal.ts";

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
  return { header: response.header, trailer: response.trailer, message: new OneMessage(response.message) };
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
  const unchanged =
    req.header === context.requestHeader &&
    req.contextValues === context.values &&
    req.service === context.service &&
    hasSignalOf(req, context);
  if (unchanged) return context;
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
      return new HandlerMessages(output, spec.impl(await single(input, "server-streaming"), context), onStarted);
    case "bidi_streaming":
      return new HandlerMessages(output, spec.impl(input, context), onStarted);
    case "client_streaming": {
      const pending = spec.impl(input, context);
      onStarted();
      return new OneMessage(toMessage(output, await pending));
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

/** What a handler yields. It may be plain objects: interceptors and the wire get messages. */
class HandlerMessages implements AsyncIterableIterator<unknown> {
  readonly #desc: DescMessage;
  readonly #messages: AsyncIterable<MessageInitShape<DescMessage>>;
  #iterator: AsyncIterator<MessageInitShape<DescMessage>> | undefined;
  #onStarted: (() => void) | undefined;

  constructor(desc: DescMessage, messages: AsyncIterable<MessageInitShape<DescMessage>>, onStarted: () => void) {
    this.#desc = desc;
    this.#messages = messages;
    this.#onStarted = onStarted;
  }

  [Symbol.asyncIterator](): this {
    this.#iterator ??= this.#messages[Symbol.asyncIterator]();
    return this;
  }

  next(): Promise<IteratorResult<unknown>> {
    const iterator = (this.#iterator ??= this.#messages[Symbol.asyncIterator]());
    const pending = iterator.next().then(this.#complete);
    this.#onStarted?.();
    this.#onStarted = undefined;
    return pending;
  }

  return(value?: unknown): Promise<IteratorResult<unknown>> {
    return this.#iterator?.return?.(value) ?? Promise.resolve({ done: true, value: undefined });
  }

  throw(error?: unknown): Promise<IteratorResult<unknown>> {
    return this.#iterator?.throw?.(error) ?? Promise.reject(error);
  }

  readonly #complete = (result: IteratorResult<MessageInitShape<DescMessage>>): IteratorResult<unknown> => {
    if (result.done === true) return result;
    const value = toMessage(this.#desc, result.value);
    return value === result.value ? result : { done: false, value };
  };
}

/** The only message of a response; a generator would take several promises for it. */
class OneMessage implements AsyncIterableIterator<unknown> {
  #message: { readonly value: unknown } | undefined;

  constructor(value: unknown) {
    this.#message = { value };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<unknown>> {
    const message = this.#message;
    this.#message = undefined;
    return Promise.resolve(
      message === undefined ? { done: true, value: undefined } : { done: false, value: message.value },
    );
  }

  return(): Promise<IteratorResult<unknown>> {
    this.#message = undefined;
    return Promise.resolve({ done: true, value: undefined });
  }
}

function toMessage(desc: DescMessage, init: MessageInitShape<DescMessage>): unknown {
  return (init as { $typeName?: string }).$typeName === desc.typeName ? init : create(desc, init);
}
