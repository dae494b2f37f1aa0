import { Code, ConnectError, createConnectRouter, createContextKey, createContextValues } from "@connectrpc/connect";
import type { ConnectRouter, ContextValues, HandlerContext, Interceptor } from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerResponse } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import { constants } from "node:http2";
import { ActiveCall } from "./active-call.ts";
import { callKey } from "./call.ts";
import type { Call } from "./call.ts";
import { codeOf } from "./call-code.ts";
import { headersOf, toUniversalRequest } from "./node-request.ts";
import { flushHead, writeResponse } from "./node-response.ts";
import { isHttp2, isHttp2Response } from "./node-types.ts";
import type { NodeRequest, NodeResponse } from "./node-types.ts";
import { answerUnknownPath } from "./unknown-path.ts";

/** What a call was and how it went, for the log and the metrics. */
export interface CallRecord {
  readonly procedure: string;
  readonly shape: Call["shape"];
  readonly protocol: Call["protocol"];
  readonly httpVersion: string;
  readonly peer: string;
  /** "ok", or the name of the code as in `not_found`. */
  readonly code: string;
  readonly messagesIn: number;
  readonly messagesOut: number;
  /** Bytes of the bodies, as they were on the wire. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly durationMs: number;
  readonly values: ContextValues;
}

export interface RuntimeOptions {
  readonly routes: (router: ConnectRouter) => void;
  readonly interceptors: readonly Interceptor[];
  /** Runs on the headers of every call, before any of its body is read. */
  readonly requestGate?: (context: HandlerContext) => Promise<void>;
  /** Bytes. A larger message fails with RESOURCE_EXHAUSTED. */
  readonly maxMessageBytes: number;
  /** Bytes. */
  readonly compressMinBytes: number;
  readonly compressStreams: boolean;
  /** Milliseconds, as all that follow. */
  readonly unaryTimeout: number;
  readonly streamTimeout: number;
  readonly streamIdleTimeout: number;
  /** Calls at once; one more fails with RESOURCE_EXHAUSTED. */
  readonly maxCalls: number;
  /** Called once for each call, when it is over. */
  readonly onCallEnd?: (record: CallRecord) => void;
  /** Called for failures that no call can carry: bugs. */
  readonly onError?: (error: unknown) => void;
}

/** Serves a router's RPCs to node:http and node:http2. */
export interface Runtime {
  /** A request listener. */
  handle(this: void, req: NodeRequest, res: NodeResponse): void;
  /** Calls that are not over. */
  readonly activeCalls: number;
  /** Ends every call with the reason; with `connection` (a socket, or an HTTP/2 session), the calls on it. */
  end(reason: ConnectError, connection?: object): void;
  /** Resolves when no call is active. */
  idle(): Promise<void>;
}

const activeCallKey = createContextKey<ActiveCall | undefined>(undefined, { description: "the runtime's call" });

const shapes = {
  unary: "unary",
  client_streaming: "client",
  server_streaming: "server",
  bidi_streaming: "bidi",
} as const;

export function createRuntime(options: RuntimeOptions): Runtime {
  const active = new Map<ActiveCall, { readonly res: NodeResponse; readonly connection: object | undefined }>();
  let waitingForIdle: (() => void)[] = [];

  const router = createConnectRouter({
    acceptCompression: [compressionGzip, compressionBrotli],
    compressMinBytes: options.compressMinBytes,
    readMaxBytes: options.maxMessageBytes,
    interceptors: [...options.interceptors, countAndFlush((call) => active.get(call)?.res)],
    async requestGate(context) {
      const call = context.values.get(activeCallKey);
      if (call !== undefined) call.context = context;
      try {
        if (active.size > options.maxCalls) {
          throw new ConnectError("the server has --max-calls calls in flight: try again later", Code.ResourceExhausted);
        }
        await options.requestGate?.(context);
      } catch (error) {
        if (call !== undefined) call.error ??= ConnectError.from(error);
        throw error;
      }
    },
  });
  options.routes(router);
  const handlers = new Map<string, UniversalHandler>();
  for (const handler of router.handlers) handlers.set(handler.requestPath, handler);

  function handle(req: NodeRequest, res: NodeResponse): void {
    const handler = handlers.get(req.url?.split("?", 1)[0] ?? "");
    if (handler === undefined) {
      answerUnknownPath(req, res);
      return;
    }
    serve(handler, req, res).catch((error: unknown) => {
      options.onError?.(error);
      reset(res);
    });
  }

  async function serve(handler: UniversalHandler, req: NodeRequest, res: NodeResponse): Promise<void> {
    const header = headersOf(req);
    const streaming = handler.method.methodKind !== "unary";
    const values = createContextValues();
    const call = new ActiveCall(
      {
        procedure: `${handler.service.typeName}/${handler.method.name}`,
        shape: shapes[handler.method.methodKind],
        protocol: protocolOf(header.get("content-type")),
        httpVersion: req.httpVersion,
        peer: `${req.socket.remoteAddress ?? "?"}:${req.socket.remotePort ?? "?"}`,
      },
      streaming
        ? {
            timeoutMs: options.streamTimeout,
            timeoutOption: "--stream-timeout",
            idleMs: options.streamIdleTimeout,
          }
        : { timeoutMs: options.unaryTimeout, timeoutOption: "--unary-timeout" },
      () => {
        reset(res);
      },
    );
    values.set(callKey, call);
    values.set(activeCallKey, call);
    if (streaming && !options.compressStreams) {
      header.delete("connect-accept-encoding");
      header.delete("grpc-accept-encoding");
    }
    let response: UniversalServerResponse | undefined;
    active.set(call, { res, connection: isHttp2(req) ? req.stream.session : req.socket });
    res.once("close", () => {
      call.close(res.writableFinished ? undefined : new ConnectError("the client went away", Code.Canceled));
      active.delete(call);
      if (active.size === 0) {
        for (const resolve of waitingForIdle) resolve();
        waitingForIdle = [];
      }
      options.onCallEnd?.({
        procedure: call.procedure,
        shape: call.shape,
        protocol: call.protocol,
        httpVersion: call.httpVersion,
        peer: call.peer,
        code: codeOf(call, response),
        messagesIn: call.messagesIn,
        messagesOut: call.messagesOut,
        bytesIn: call.bytesIn,
        bytesOut: call.bytesOut,
        durationMs: Math.round((performance.now() - call.startedAt) * 1000) / 1000,
        values,
      });
    });
    // An error of the socket shows as "close" too; without a listener it would end the process.
    res.on("error", () => undefined);
    req.on("error", () => undefined);
    response = await handler(toUniversalRequest(req, header, call, values));
    if (response.status === 415) {
      response = { ...response, header: new Headers({ "accept-post": acceptPost }) };
    }
    await writeResponse(response, req, res, call);
  }

  return {
    handle,
    get activeCalls() {
      return active.size;
    },
    end(reason, connection) {
      for (const [call, { connection: its }] of [...active]) {
        if (connection === undefined || its === connection) call.end(reason);
      }
    },
    idle() {
      if (active.size === 0) return Promise.resolve();
      return new Promise((resolve) => waitingForIdle.push(resolve));
    },
  };
}

/** What a POST may carry (https://www.w3.org/TR/ldp/#header-accept-post). */
const acceptPost = [
  "application/json",
  "application/proto",
  "application/connect+json",
  "application/connect+proto",
  "application/grpc",
  "application/grpc+json",
  "application/grpc+proto",
  "application/grpc-web",
  "application/grpc-web+json",
  "application/grpc-web+proto",
].join(", ");

/**
 * The innermost interceptor: counts messages, and sends the headers of a
 * streamed response once the handler has been called, so that they hold what it
 * set before its first wait, and do not wait for its first message.
 */
function countAndFlush(responseOf: (call: ActiveCall) => NodeResponse | undefined): Interceptor {
  return (next) => async (req) => {
    const call = req.contextValues.get(activeCallKey);
    if (call === undefined) return next(req);
    const flushSoon = (): void => {
      setImmediate(() => {
        const res = responseOf(call);
        if (res === undefined || call.context === undefined || call.signal.aborted) return;
        // Asks nginx and its kin not to hold messages back.
        call.context.responseHeader.set("x-accel-buffering", "no");
        flushHead(res, call.context.responseHeader);
      });
    };
    if (!req.stream) {
      call.messagesIn = 1;
      const response = await next(req);
      call.messagesOut = 1;
      return response;
    }
    const answer = next({ ...req, message: counted(req.message, () => call.messagesIn++) });
    if (call.shape === "client") flushSoon();
    const response = await answer;
    if (!response.stream) return response;
    return {
      ...response,
      message: counted(response.message, () => call.messagesOut++, call.shape === "client" ? undefined : flushSoon),
    };
  };
}

/** Passes messages on and counts them; `started` runs once the first has been asked for. */
function counted<T>(messages: AsyncIterable<T>, count: () => void, started?: () => void): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator]() {
      const it = messages[Symbol.asyncIterator]();
      let first = true;
      return {
        async next() {
          const pending = it.next();
          if (first) started?.();
          first = false;
          const result = await pending;
          if (result.done !== true) count();
          return result;
        },
        return: (value?: unknown) => it.return?.(value) ?? Promise.resolve({ done: true, value: undefined }),
        throw: (error?: unknown) => it.throw?.(error) ?? Promise.reject(error),
      };
    },
  };
}

function protocolOf(contentType: string | null): Call["protocol"] {
  if (contentType?.startsWith("application/grpc-web") === true) return "grpc-web";
  if (contentType?.startsWith("application/grpc") === true) return "grpc";
  return "connect";
}

/** Cuts a response that cannot end in order. */
function reset(res: NodeResponse): void {
  if (isHttp2Response(res)) res.stream.close(constants.NGHTTP2_CANCEL);
  else res.destroy();
}
