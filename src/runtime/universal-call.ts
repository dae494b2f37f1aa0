import type { ContextValues } from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerRequest, UniversalServerResponse } from "@connectrpc/connect/protocol";
import * as connect from "@connectrpc/connect/protocol-connect";
import * as grpc from "@connectrpc/connect/protocol-grpc";
import { maxTimerMs } from "../async/timers.ts";
import { ChunkQueue } from "../wire/chunk-queue.ts";
import type { ActiveCall } from "./active-call.ts";
import { CountedOutput } from "./counted-output.ts";
import type { HttpExchange } from "./exchange.ts";
import { readUnaryFailure } from "./unary-failure.ts";
import { UnaryBody, weighQuery } from "./unary-body.ts";
import type { UnaryLimits } from "./unary-body.ts";

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

/** Serves a call with Connect's own handler: unary methods, and whatever else the runtime leaves to it. */
export async function serveUniversal(
  handler: UniversalHandler,
  exchange: HttpExchange,
  call: ActiveCall,
  contextValues: ContextValues,
  limits: UnaryLimits,
): Promise<UniversalServerResponse> {
  boundTimeout(exchange.header);
  const request: UniversalServerRequest = {
    // Connect refuses bidi on HTTP/1.1, because a client may wait for full duplex in vain. Half duplex
    // works there, and Node answers while it reads, so that the call is worth more than the refusal.
    httpVersion: call.shape === "bidi" ? "2.0" : exchange.httpVersion,
    method: exchange.method,
    url: exchange.url,
    header: exchange.header,
    body: requestBody(exchange, call, limits),
    signal: call.signal,
    contextValues,
  };
  let response = await handler(request);
  if (response.status === 415) response = { ...response, header: new Headers({ "accept-post": acceptPost }) };
  if (call.shape === "unary" && call.protocol === "connect") {
    const unread = call.messagesIn === 0 && call.error === undefined;
    const failure = await readUnaryFailure(response, unread, limits.acceptCompression);
    if (failure !== undefined) {
      call.error ??= failure.error;
      response = failure.response;
    }
  }
  await writeResponse(response, exchange, call);
  return response;
}

/** Connect decodes a unary request itself, so that this is read, and weighed, when the call has passed the gate. */
function requestBody(exchange: HttpExchange, call: ActiveCall, limits: UnaryLimits): AsyncIterable<Uint8Array> {
  if (call.shape !== "unary") return bodyOf(exchange, call);
  if (exchange.method === "GET") {
    call.afterGate = () => weighQuery(exchange.url, call, limits);
    return bodyOf(exchange, call);
  }
  const body = new UnaryBody(exchange.header, call, limits);
  call.afterGate = () => body.read(bodyOf(exchange, call));
  return body.take();
}

/** Connect sets a timer for what the client asks, and a timer beyond its range fires at once. */
function boundTimeout(header: Headers): void {
  for (const [name, parseTimeout, longest] of [
    [connect.headerTimeout, connect.parseTimeout, String(maxTimerMs)],
    [grpc.headerTimeout, grpc.parseTimeout, `${Math.floor(maxTimerMs / 1000)}S`],
  ] as const) {
    const { timeoutMs } = parseTimeout(header.get(name), Number.MAX_SAFE_INTEGER);
    if (timeoutMs !== undefined && timeoutMs > maxTimerMs) header.set(name, longest);
  }
}

/** Writes the response, waiting whenever the peer does not keep up. */
async function writeResponse(
  { status, header = new Headers(), body, trailer }: UniversalServerResponse,
  exchange: HttpExchange,
  call: ActiveCall,
): Promise<void> {
  const chunks = body?.[Symbol.asyncIterator]();
  const output = new CountedOutput(exchange, call);
  try {
    if (chunks !== undefined) {
      for (let chunk = await chunks.next(); chunk.done !== true; chunk = await chunks.next()) {
        if (call.closed) return;
        exchange.sendHead(status, header);
        if (!output.write([chunk.value])) await drained(exchange, call, output);
        call.touch();
      }
    }
    if (call.closed) return;
    exchange.sendHead(status, header);
    exchange.end(trailer);
  } finally {
    // Runs the handler's `finally` if the peer left; not awaited, because a handler may be slow to let go.
    chunks?.return?.().catch(() => undefined);
  }
}

/** Waits until the peer has taken what was written, or the call is over. */
function drained(exchange: HttpExchange, call: ActiveCall, output: CountedOutput): Promise<void> {
  return new Promise((resolve) => {
    const cleanup = call.onClose(resolve);
    exchange.onDrain(() => {
      output.drained();
      cleanup();
      resolve();
    });
  });
}

/**
 * The chunks of the body, read from the first that is asked for. Ends with the
 * call's reason when the call is ended, also while it waits.
 */
async function* bodyOf(exchange: HttpExchange, call: ActiveCall): AsyncGenerator<Uint8Array> {
  const chunks = new ChunkQueue(exchange);
  const leave = call.onAbort((reason) => {
    chunks.fail(reason);
  });
  exchange.receive({
    onChunk(chunk) {
      call.bytesIn += chunk.byteLength;
      call.touch();
      chunks.push(chunk);
    },
    onEnd() {
      chunks.end();
    },
  });
  try {
    yield* chunks.read();
  } finally {
    leave();
  }
}
