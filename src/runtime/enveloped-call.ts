import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { ContextValues, HandlerContext, Interceptor } from "@connectrpc/connect";
import { compressionNegotiate } from "@connectrpc/connect/protocol";
import type { Compression } from "@connectrpc/connect/protocol";
import { guarded } from "../async/guard.ts";
import type { OnUnexpected } from "../async/guard.ts";
import type { ByteSink } from "../wire/byte-sink.ts";
import { MessageReader } from "../wire/message-reader.ts";
import { MessageWriter } from "../wire/message-writer.ts";
import type { ActiveCall } from "./active-call.ts";
import { boundError } from "./bounded-error.ts";
import type { HttpExchange } from "./exchange.ts";
import { CountedOutput, pausedBytes } from "./counted-output.ts";
import { internalUnlessKnown } from "./internal-error.ts";
import { invoke } from "./invoke.ts";
import { allocateUncleared, turns } from "../wire/node-platform.ts";
import { withSignal } from "./lazy-signal.ts";
import type { EnvelopedRoute, RequestLimits } from "./routes.ts";
import type { EnvelopedProtocol } from "./enveloped-protocols.ts";

export interface EnvelopedCallOptions {
  readonly interceptors: readonly Interceptor[];
  readonly requestGate: (context: HandlerContext) => Promise<void>;
  /** Where responses are encoded. */
  readonly sink: ByteSink;
  readonly acceptCompression: Compression[];
  /** Bytes. */
  readonly compressMinBytes: number;
  readonly compressStreams: boolean;
  /** Bytes of request messages that wait for the handler. */
  readonly streamBufferBytes: number;
  /** Bytes that the peer may send ahead of what is read. */
  readonly streamWindow: number;
  /** A handler has set response headers after they had left. */
  readonly onLateHeaders?: (procedure: string, names: readonly string[]) => void;
  readonly onUnexpected: OnUnexpected;
}

/** A request with messages in envelopes, as far as it is understood. */
export interface EnvelopedRequest {
  readonly route: EnvelopedRoute;
  readonly limits: RequestLimits;
  readonly protocol: EnvelopedProtocol;
  readonly binary: boolean;
  readonly contextValues: ContextValues;
}

/** Serves one call, from the gate to the end of its response. Fails never: what goes wrong is its answer. */
export async function serveEnveloped(
  { route, limits, protocol, binary, contextValues }: EnvelopedRequest,
  exchange: HttpExchange,
  call: ActiveCall,
  options: EnvelopedCallOptions,
): Promise<void> {
  const { header } = exchange;
  const { method } = route.spec;
  const timeout = protocol.parseTimeout(header.get(protocol.timeoutHeader), Number.MAX_SAFE_INTEGER);
  const compression = compressionNegotiate(
    options.acceptCompression,
    header.get(protocol.encodingHeader),
    header.get(protocol.acceptEncodingHeader),
    protocol.acceptEncodingHeader,
  );
  const context = contextOf(exchange, call, method, protocol, contextValues);
  context.responseHeader.set("content-type", protocol.contentType(binary));
  const streaming = method.methodKind !== "unary";
  const compressResponse = !streaming || options.compressStreams ? compression.response : null;
  if (compressResponse !== null) context.responseHeader.set(protocol.encodingHeader, compressResponse.name);
  // Asks nginx and its kin not to hold messages back.
  if (streaming) context.responseHeader.set("x-accel-buffering", "no");
  const input = route.codec.getI(binary);
  const decode = binary ? route.decode : undefined;
  const outputCodec = route.codec.getO(binary);
  const output = new CountedOutput(exchange, call);
  const requests = new MessageReader({
    source: exchange,
    parse:
      decode === undefined ? (payload) => input.parse(payload) : (payload) => decode(payload) ?? input.parse(payload),
    compression: compression.request,
    maxMessageBytes: limits.maxMessageBytes,
    maxQueuedBytes: options.streamBufferBytes,
    truncated: Code.InvalidArgument,
    ...(protocol.endFlag === undefined ? {} : { end: { flag: protocol.endFlag, take: refuseEnd } }),
    onMessage: () => call.messagesIn++,
    onBytes: (count) => {
      call.bytesIn += count;
      call.touch();
    },
    allocate: allocateUncleared,
    memory: {
      account: call.memory,
      weigh: binary ? limits.weigh : limits.weighJson,
      pausedBytes: pausedBytes(exchange, options.streamWindow),
      single: call.shape === "unary" || call.shape === "server",
      // Its handler may let go of the message long before the stream ends.
      onHeld:
        call.shape === "server"
          ? (message, bytes) => {
              call.memory.releaseWith(message, bytes);
            }
          : undefined,
    },
  });
  const sendHead = (): void => {
    if (!writer.closed) exchange.sendHead(200, context.responseHeader);
  };
  const writer = new MessageWriter({
    write(pieces, sent) {
      exchange.sendHead(200, context.responseHeader);
      return output.write(pieces, sent);
    },
    sink: options.sink,
    codec: { serialize: (message) => outputCodec.serialize(message), encode: binary ? route.encode : undefined },
    compression: compressResponse,
    compressMinBytes: options.compressMinBytes,
    turns,
  });
  exchange.onDrain(() => {
    output.drained();
    writer.drained();
  });
  call.onClose(() => {
    writer.close();
  });

  /** The names of the headers that have left before the handler was done with them. */
  let early: ReadonlySet<string> | undefined;
  const sendEarly = (): void => {
    if (writer.closed || exchange.headSent) return;
    if (options.onLateHeaders !== undefined) early = new Set(context.responseHeader.keys());
    sendHead();
  };
  const tellLate = (sent: typeof early): void => {
    const late = sent === undefined ? [] : [...context.responseHeader.keys()].filter((name) => !sent.has(name));
    if (late.length > 0) options.onLateHeaders?.(call.procedure, late);
  };
  /** False after the last message. */
  const addNext = (next: IteratorResult<unknown>): Promise<void> | false | undefined => {
    if (next.done === true || writer.closed) return false;
    call.messagesOut++;
    return writer.add(next.value as Message);
  };
  let messages: AsyncIterator<unknown> | undefined;
  const finish = (reason?: unknown): void => {
    if (writer.closed) return;
    const error = reason === undefined ? undefined : boundError(internalUnlessKnown(reason), protocol.maxDetailBytes);
    if (error !== undefined) call.error ??= error;
    const { envelope, trailer } = protocol.end(context.responseTrailer, error);
    sendHead();
    writer.end(envelope);
    exchange.end(trailer);
  };
  const fail = (error: unknown): void => {
    options.onUnexpected(error);
    exchange.reset("error");
  };
  const leave = call.onAbort((reason) => {
    requests.fail(reason, true);
    // The handler hears of it first, and may have something to say; then the peer is told, whatever the handler does.
    const end = guarded(fail, () => {
      finish(reason);
      messages?.return?.().catch(() => undefined);
    });
    setImmediate(end);
  });

  try {
    await options.requestGate(context);
    if (compression.error !== undefined) throw compression.error;
    if (timeout.error !== undefined) throw timeout.error;
    if (timeout.timeoutMs !== undefined) call.expireAfter(timeout.timeoutMs);
    exchange.receive(requests);
    const response = await invoke({
      spec: route.spec,
      context,
      input: requests,
      interceptors: options.interceptors,
      onStarted: () => {
        // What the handler sets before its first wait is in the headers, and they do not wait for its first message.
        if (!call.headersHeld) setImmediate(guarded(fail, sendEarly));
      },
    });
    replaceAll(response.header, context.responseHeader);
    messages = response.message[Symbol.asyncIterator]();
    for (;;) {
      // In a scope of its own, so that a message is not kept while the peer does not take the next.
      const full = addNext(await messages.next());
      if (full === false) break;
      if (full !== undefined) await full;
    }
    replaceAll(response.trailer, context.responseTrailer);
    finish();
    tellLate(early);
  } catch (error) {
    finish(error);
  } finally {
    leave();
    call.settle();
    // Runs the handler's `finally` if it was left early; not awaited, because a handler may be slow to let go.
    messages?.return?.().catch(() => undefined);
    requests.return().catch(() => undefined);
  }
}

/** Only responses have an end of their own. */
function refuseEnd(): never {
  throw new ConnectError("unexpected end flag", Code.InvalidArgument);
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
