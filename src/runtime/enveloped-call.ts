import type { Message } from "@bufbuild/protobuf";
import type { ConnectError, ContextValues, HandlerContext, Interceptor } from "@connectrpc/connect";
import { compressionNegotiate } from "@connectrpc/connect/protocol";
import type { Compression } from "@connectrpc/connect/protocol";
import type { OnUnexpected } from "../async/guard.ts";
import { MessageReader } from "../wire/message-reader.ts";
import { MessageWriter } from "../wire/message-writer.ts";
import type { ActiveCall } from "./active-call.ts";
import { boundError } from "./bounded-error.ts";
import { EnvelopedInput, EnvelopedOutput } from "./enveloped-body.ts";
import type { EnvelopedBodyOptions, EnvelopedFraming } from "./enveloped-body.ts";
import type { EnvelopedProtocol } from "./enveloped-protocols.ts";
import type { HttpExchange } from "./exchange.ts";
import { internalUnlessKnown } from "./internal-error.ts";
import { invoke } from "./invoke.ts";
import { withSignal } from "./lazy-signal.ts";
import type { EnvelopedRoute, RequestLimits } from "./routes.ts";
import type { RunningCall } from "./running-calls.ts";

export interface EnvelopedCallOptions extends EnvelopedBodyOptions {
  readonly interceptors: readonly Interceptor[];
  readonly requestGate: (context: HandlerContext) => Promise<void>;
  readonly acceptCompression: Compression[];
  readonly compressStreams: boolean;
  /** A handler has set response headers after they had left. */
  readonly onLateHeaders?: (procedure: string, names: readonly string[]) => void;
  readonly onUnexpected: OnUnexpected;
}

/** Serves one call, from the gate to the end of its response. Never rejects: failures are sent as the RPC's status. */
export function serveEnveloped(
  route: EnvelopedRoute,
  limits: RequestLimits,
  framing: EnvelopedFraming,
  running: RunningCall,
  options: EnvelopedCallOptions,
): Promise<void> {
  return new EnvelopedCall(route, limits, framing, running, options).serve();
}

class EnvelopedCall {
  readonly #route: EnvelopedRoute;
  readonly #protocol: EnvelopedProtocol;
  readonly #exchange: HttpExchange;
  readonly #call: ActiveCall;
  readonly #options: EnvelopedCallOptions;
  readonly #context: HandlerContext;
  readonly #requests: MessageReader<unknown>;
  readonly #writer: MessageWriter;
  /** What the call is refused with once it has passed the gate. */
  readonly #refusal: ConnectError | undefined;
  readonly #timeoutMs: number | undefined;
  #messages: AsyncIterator<unknown> | undefined;
  /** The names of the headers that have left before the handler was done with them. */
  #early: ReadonlySet<string> | undefined;

  constructor(
    route: EnvelopedRoute,
    limits: RequestLimits,
    framing: EnvelopedFraming,
    { exchange, call, values }: RunningCall,
    options: EnvelopedCallOptions,
  ) {
    const { protocol, binary } = framing;
    const { header } = exchange;
    const { method } = route.spec;
    const timeout = protocol.parseTimeout(header.get(protocol.timeoutHeader), Number.MAX_SAFE_INTEGER);
    const compression = compressionNegotiate(
      options.acceptCompression,
      header.get(protocol.encodingHeader),
      header.get(protocol.acceptEncodingHeader),
      protocol.acceptEncodingHeader,
    );
    const context = contextOf(exchange, call, method, protocol, values);
    const { responseHeader } = context;
    responseHeader.set("content-type", protocol.contentType(binary));
    const streaming = method.methodKind !== "unary";
    const compressResponse = !streaming || options.compressStreams ? compression.response : null;
    if (compressResponse !== null) responseHeader.set(protocol.encodingHeader, compressResponse.name);
    // Asks nginx and its kin not to hold messages back.
    if (streaming) responseHeader.set("x-accel-buffering", "no");
    const input = new EnvelopedInput(route, limits, framing, exchange, call, compression.request, options);
    const output = new EnvelopedOutput(route, binary, exchange, call, compressResponse, responseHeader, options);
    const writer = new MessageWriter(output);
    this.#route = route;
    this.#protocol = protocol;
    this.#exchange = exchange;
    this.#call = call;
    this.#options = options;
    this.#context = context;
    this.#requests = new MessageReader(input);
    this.#writer = writer;
    this.#refusal = compression.error ?? timeout.error;
    this.#timeoutMs = timeout.timeoutMs;
    exchange.onDrain(() => {
      output.drained();
      writer.drained();
    });
    call.onClose(() => {
      writer.close();
    });
  }

  async serve(): Promise<void> {
    const { spec } = this.#route;
    const context = this.#context;
    const call = this.#call;
    call.onAbort(this.#onAbort);
    try {
      await this.#options.requestGate(context);
      if (this.#refusal !== undefined) throw this.#refusal;
      if (this.#timeoutMs !== undefined) call.expireAfter(this.#timeoutMs);
      this.#exchange.receive(this.#requests);
      const { interceptors } = this.#options;
      const response = await invoke({
        spec,
        context,
        input: this.#requests,
        interceptors,
        onStarted: this.#onStarted,
      });
      replaceAll(response.header, context.responseHeader);
      const messages = response.message[Symbol.asyncIterator]();
      this.#messages = messages;
      for (;;) {
        // In a scope of its own, so that a message is not kept while the peer does not take the next.
        const full = this.#add(await messages.next());
        if (full === false) break;
        if (full !== undefined) await full;
      }
      replaceAll(response.trailer, context.responseTrailer);
      this.#finish();
      this.#warnOfLateHeaders();
    } catch (error) {
      this.#finish(error);
    } finally {
      call.offAbort(this.#onAbort);
      call.settle();
      // Runs the handler's `finally` if it was left early; not awaited, because a handler may be slow to let go.
      this.#messages?.return?.().catch(() => undefined);
      this.#requests.return().catch(() => undefined);
    }
  }

  /** What the handler sets before its first wait is in the headers, and they do not wait for its first message. */
  readonly #onStarted = (): void => {
    if (!this.#call.headersHeld) setImmediate(EnvelopedCall.#sendEarly, this);
  };

  static #sendEarly(served: EnvelopedCall): void {
    if (served.#writer.closed || served.#exchange.headSent) return;
    try {
      const { responseHeader } = served.#context;
      if (served.#options.onLateHeaders !== undefined) served.#early = new Set(responseHeader.keys());
      served.#exchange.sendHead(200, responseHeader);
    } catch (error) {
      served.#fail(error);
    }
  }

  readonly #onAbort = (reason: Error): void => {
    this.#requests.fail(reason, true);
    // The handler hears of it first, and may have something to say; then the peer is told, whatever the handler does.
    setImmediate(EnvelopedCall.#finishAborted, this, reason);
  };

  static #finishAborted(served: EnvelopedCall, reason: Error): void {
    try {
      served.#finish(reason);
      served.#messages?.return?.().catch(() => undefined);
    } catch (error) {
      served.#fail(error);
    }
  }

  /** Adds a message to the response; false after the last. A promise is to be awaited before the next. */
  #add(next: IteratorResult<unknown>): Promise<void> | false | undefined {
    if (next.done === true || this.#writer.closed) return false;
    this.#call.messagesOut++;
    return this.#writer.add(next.value as Message);
  }

  #finish(reason?: unknown): void {
    const protocol = this.#protocol;
    const { responseHeader, responseTrailer } = this.#context;
    if (this.#writer.closed) return;
    const error = reason === undefined ? undefined : boundError(internalUnlessKnown(reason), protocol.maxDetailBytes);
    if (error !== undefined) this.#call.error ??= error;
    const { envelope, trailer } = protocol.end(responseTrailer, error);
    this.#exchange.sendHead(200, responseHeader);
    this.#writer.end(envelope);
    this.#exchange.end(trailer);
  }

  #warnOfLateHeaders(): void {
    const early = this.#early;
    if (early === undefined) return;
    const late = [...this.#context.responseHeader.keys()].filter((name) => !early.has(name));
    if (late.length > 0) this.#options.onLateHeaders?.(this.#call.procedure, late);
  }

  #fail(error: unknown): void {
    this.#options.onUnexpected(error);
    this.#exchange.reset("error");
  }
}

/** What the handler gets. Connect makes it with two more signals and copies of the headers, which nobody needs here. */
function contextOf(
  exchange: HttpExchange,
  call: ActiveCall,
  method: EnvelopedRoute["spec"]["method"],
  protocol: EnvelopedProtocol,
  values: ContextValues,
): HandlerContext {
  return withSignal(
    {
      service: method.parent,
      method,
      requestMethod: exchange.method,
      url: exchange.url,
      protocolName: protocol.name,
      timeoutMs: () => call.leftMs,
      requestHeader: exchange.header,
      responseHeader: new Headers(),
      responseTrailer: new Headers(protocol.trailer),
      values,
    },
    call,
  );
}

/** Interceptors may hand on headers of their own. */
function replaceAll(from: Headers, to: Headers): void {
  if (from === to) return;
  for (const name of [...to.keys()]) to.delete(name);
  for (const [name, value] of from) to.append(name, value);
}
