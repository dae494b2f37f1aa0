import { Code, ConnectError } from "@connectrpc/connect";
import type { ConnectRouter, ContextValues, HandlerContext, Interceptor } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import { getHeapStatistics } from "node:v8";
import { raise } from "../async/guard.ts";
import type { OnUnexpected } from "../async/guard.ts";
import { ByteSink } from "../wire/byte-sink.ts";
import type { ActiveCall } from "./active-call.ts";
import { boundError, maxTrailerDetailBytes } from "./bounded-error.ts";
import type { Call } from "./call.ts";
import type { HttpExchange } from "./exchange.ts";
import { allocateUncleared } from "../wire/node-platform.ts";
import { internalUnlessKnown } from "./internal-error.ts";
import { forRequests } from "./request-faults.ts";
import { RunningCalls, activeCallKey } from "./running-calls.ts";
import type { CallRecord, ConnectionCalls, RunningCall } from "./running-calls.ts";
import { MemoryBudget, retryLater } from "./memory-budget.ts";
import { collectRoutes } from "./routes.ts";
import type { Route } from "./routes.ts";
import { serveEnveloped } from "./enveloped-call.ts";
import { serveStream } from "./stream-call.ts";
import { collectStreams } from "./stream-routes.ts";
import type { StreamRoute, StreamRouter } from "./stream-routes.ts";
import { framingOf } from "./enveloped-protocols.ts";
import { serveUniversal } from "./universal-call.ts";
import { answerUnknownPath } from "./unknown-path.ts";

export interface RuntimeOptions {
  readonly routes: (router: ConnectRouter) => void;
  readonly interceptors: readonly Interceptor[];
  /** Runs on the headers of every call, before any of its body is read. */
  readonly requestGate?: (context: HandlerContext) => Promise<void>;
  /** Streams that handlers take over, beside the RPCs. */
  readonly streams?: ((router: StreamRouter) => void) | undefined;
  /** The same for them. */
  readonly streamGate?: (route: StreamRoute, header: Headers, values: ContextValues) => Promise<void>;
  /** What a failure of theirs means. Default: a ConnectError stays as it is, all else is "internal error". */
  readonly toConnectError?: (error: unknown) => ConnectError;
  /** Bytes. A larger message fails with RESOURCE_EXHAUSTED. */
  readonly maxMessageBytes: number;
  /** Services whose messages have a smaller limit. */
  readonly openServices?: readonly string[];
  /** Bytes of a message of theirs. Default: `maxMessageBytes`. */
  readonly maxOpenMessageBytes?: number;
  /**
   * Fields, map entries and repeated elements of a message; one with more fails with RESOURCE_EXHAUSTED.
   * Default: `messageElements` of `maxMessageBytes`.
   */
  readonly maxMessageElements?: number;
  /** Bytes that all calls together may hold; see MemoryBudget. Default: half of the limit of JavaScript's heap. */
  readonly maxRequestMemory?: number | undefined;
  /** Bytes that a peer may send ahead on a stream that is not read, over HTTP/2 and HTTP/3. */
  readonly streamWindow: number;
  /** Bytes. */
  readonly compressMinBytes: number;
  readonly compressStreams: boolean;
  /** Bytes of a stream's messages that wait for the handler before its peer is asked to pause. */
  readonly streamBufferBytes: number;
  /** Milliseconds, as all that follow. */
  readonly unaryTimeout: number;
  readonly streamTimeout: number;
  readonly streamIdleTimeout: number;
  /** Calls at once; one more fails with RESOURCE_EXHAUSTED. */
  readonly maxCalls: number;
  /** Called once for each call, when it is over. */
  readonly onCallEnd?: (record: CallRecord) => void;
  /** Hears of the calls of each connection. */
  readonly connections?: ConnectionCalls;
  /** Called for each request to a path that is none of a method or stream. */
  readonly onUnknownPath?: (exchange: HttpExchange) => void;
  /** A streaming handler has set headers after they had left: without `holdHeaders` they leave at its first wait. */
  readonly onLateHeaders?: (procedure: string, names: readonly string[]) => void;
  /** Called for failures that no call can carry. Default: `raise`. */
  readonly onUnexpected?: OnUnexpected;
}

/** Serves a router's RPCs. */
export interface Runtime {
  /** Serves a request, of whatever version of HTTP. */
  serve(this: void, exchange: HttpExchange): void;
  /** Calls that are not over. */
  readonly activeCalls: number;
  /** What they hold. */
  readonly memory: MemoryBudget;
  /** Ends every call with the reason; with `connection` (a socket, or an HTTP/2 session), the calls on it. */
  end(reason: ConnectError, connection?: object): void;
  /** Resolves when no call is active. */
  idle(): Promise<void>;
}

/** What an open call takes by itself, in bytes: its stream, headers, timers and promises. */
const callBytes = 16 * 1024;

const shapes = {
  unary: "unary",
  client_streaming: "client",
  server_streaming: "server",
  bidi_streaming: "bidi",
} as const;

/** The elements that a message may have by default: one for each 32 bytes of the largest message, 10,000 at least. */
export function messageElements(maxMessageBytes: number): number {
  return Math.max(10_000, Math.floor(maxMessageBytes / 32));
}

export function createRuntime(options: RuntimeOptions): Runtime {
  const memory = new MemoryBudget(options.maxRequestMemory ?? getHeapStatistics().heap_size_limit / 2);
  const calls = new RunningCalls({ ...options, memory });
  const onUnexpected = options.onUnexpected ?? raise;

  const requireRoom = (call: ActiveCall | undefined): void => {
    if (calls.size > options.maxCalls) {
      throw retryLater(
        new ConnectError("the server has --max-calls calls in flight: try again later", Code.ResourceExhausted),
      );
    }
    if (call?.memory.charge(callBytes) === false) throw memory.refuse();
  };
  const requestGate = async (context: HandlerContext): Promise<void> => {
    const call = context.values.get(activeCallKey);
    try {
      requireRoom(call);
      await options.requestGate?.(context);
      if (call !== undefined) call.admitted = true;
      if (call?.afterGate !== undefined) await call.afterGate();
    } catch (error) {
      if (call !== undefined) call.error ??= ConnectError.from(error);
      throw error;
    }
  };
  const acceptCompression = [compressionGzip, compressionBrotli].map(forRequests);
  const routes = collectRoutes(options.routes, {
    acceptCompression,
    compressMinBytes: options.compressMinBytes,
    maxMessageBytesOf: ({ typeName }) =>
      options.openServices?.includes(typeName) === true
        ? Math.min(options.maxMessageBytes, options.maxOpenMessageBytes ?? Infinity)
        : options.maxMessageBytes,
    maxMessageElements: options.maxMessageElements ?? messageElements(options.maxMessageBytes),
    interceptors: [observeUniversal, ...options.interceptors],
    requestGate,
  });
  const sink = new ByteSink(allocateUncleared);
  const envelopeOptions = { ...options, acceptCompression, requestGate, sink, onUnexpected };

  const streams = collectStreams(options.streams, routes);
  const streamOptions = {
    gate: async (route: StreamRoute, header: Headers, values: ContextValues): Promise<void> => {
      requireRoom(values.get(activeCallKey));
      await options.streamGate?.(route, header, values);
      const call = values.get(activeCallKey);
      if (call !== undefined) call.admitted = true;
    },
    toConnectError: options.toConnectError ?? internalUnlessKnown,
    streamBufferBytes: options.streamBufferBytes,
    streamWindow: options.streamWindow,
  };

  function serve(exchange: HttpExchange): void {
    try {
      begun(exchange);
    } catch (error) {
      fail(exchange, error);
    }
  }

  /** Never throws. */
  function fail(exchange: HttpExchange, error: unknown): void {
    onUnexpected(error);
    exchange.reset("error");
  }

  function begun(exchange: HttpExchange): void {
    const route = routes.get(exchange.path) ?? streams.get(exchange.path);
    if (route === undefined) {
      options.onUnknownPath?.(exchange);
      answerUnknownPath(exchange);
      return;
    }
    ("path" in route ? answerStream(route, exchange) : answer(route, exchange)).catch((error: unknown) => {
      fail(exchange, error);
    });
  }

  /** Serves a stream, which is over once it has ended in both directions and its handler has returned, or it broke off. */
  async function answerStream(route: StreamRoute, exchange: HttpExchange): Promise<void> {
    const handled = Promise.withResolvers<undefined>();
    let denied: UniversalServerResponse | undefined;
    const about = { procedure: route.path, shape: "bidi", protocol: "raw" } as const;
    const running = calls.begin(exchange, about, {
      reset() {
        exchange.reset();
        running.end(true, denied);
      },
    });
    exchange.onClose((complete) => {
      if (complete) void handled.promise.then(() => running.end(true, denied));
      else running.end(false, denied);
    });
    const onDenied = (status: number): void => {
      denied = { status };
    };
    await serveStream(route, exchange, running.call, running.values, { ...streamOptions, onDenied });
    handled.resolve(undefined);
    running.handled();
  }

  async function answer(route: Route, exchange: HttpExchange): Promise<void> {
    const { handler } = route;
    const shape = shapes[handler.method.methodKind];
    const contentType = exchange.header.get("content-type");
    const procedure = `${handler.service.typeName}/${handler.method.name}`;
    const about = { procedure, shape, protocol: protocolOf(contentType) };
    let response: UniversalServerResponse | undefined = undefined;
    const running = calls.begin(exchange, about);
    exchange.onClose((complete) => {
      running.end(complete, response);
    });
    const framing = exchange.method === "POST" ? framingOf(contentType, shape) : undefined;
    try {
      if (route.enveloped !== undefined && framing !== undefined) {
        await serveEnveloped(route.enveloped, route.requests, framing, running, envelopeOptions);
      } else {
        response = await answerUniversal(route, running);
      }
    } finally {
      running.handled();
    }
  }

  function answerUniversal(
    { handler, requests }: Route,
    { exchange, call, values }: RunningCall,
  ): Promise<UniversalServerResponse> {
    if (call.shape !== "unary" && !options.compressStreams) {
      // Without these the answer would be compressed as the request is.
      exchange.header.set("connect-accept-encoding", "identity");
      exchange.header.set("grpc-accept-encoding", "identity");
    }
    return serveUniversal(handler, exchange, call, values, { ...requests, acceptCompression });
  }

  return {
    serve,
    memory,
    get activeCalls() {
      return calls.size;
    },
    end(reason, connection) {
      calls.end(reason, connection);
    },
    idle: () => calls.idle(),
  };
}

/** Counts the messages of a call that Connect's handler serves, and notes what it fails with. */
const observeUniversal: Interceptor = (next) => async (req) => {
  const call = req.contextValues.get(activeCallKey);
  if (call === undefined) return next(req);
  const note = (error: unknown): ConnectError => {
    const failure = internalUnlessKnown(error);
    call.error ??= failure;
    return boundError(failure, call.protocol === "grpc" ? maxTrailerDetailBytes : Infinity);
  };
  if (!req.stream) call.messagesIn = 1;
  try {
    const response = await next(req);
    if (response.stream) return { ...response, message: noted(response.message, note) };
    call.messagesOut = 1;
    return response;
  } catch (error) {
    throw note(error);
  }
};

async function* noted<T>(messages: AsyncIterable<T>, note: (error: unknown) => ConnectError): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw note(error);
  }
}

function protocolOf(contentType: string | null): Call["protocol"] {
  if (contentType?.startsWith("application/grpc-web") === true) return "grpc-web";
  if (contentType?.startsWith("application/grpc") === true) return "grpc";
  return "connect";
}
