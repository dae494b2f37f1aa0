import { Code, ConnectError } from "@connectrpc/connect";
import type { ContextValues } from "@connectrpc/connect";
import { codeToHttpStatus } from "@connectrpc/connect/protocol-connect";
import { reasonOf } from "../async/signals.ts";
import { DuplexStream } from "../wire/duplex-stream.ts";
import type { BidirectionalStream } from "../wire/duplex-stream.ts";
import type { ActiveCall } from "./active-call.ts";
import { boundMessage } from "./bounded-error.ts";
import { CountedOutput, pausedBytes } from "./counted-output.ts";
import type { HttpExchange } from "./exchange.ts";
import type { StreamRequest, StreamRoute } from "./stream-routes.ts";

/** quic-go says of a POST whose body it does not have yet that it is empty, and then nothing may follow. */
const methods: readonly string[] = ["POST", "GET"];

export interface StreamCallOptions {
  /** Runs on the headers, before the handler. */
  readonly gate: (route: StreamRoute, header: Headers, values: ContextValues) => Promise<void>;
  /** What a failure means; it is told of those that nobody expected. */
  readonly toConnectError: (error: unknown) => ConnectError;
  /** Bytes of a stream that wait for the handler before its peer is asked to pause. */
  readonly streamBufferBytes: number;
  /** Bytes that the peer may send ahead of what is read. */
  readonly streamWindow: number;
  readonly onDenied: (status: number) => void;
}

/** Serves one stream, until its handler has returned. Fails never: what goes wrong is its answer. */
export async function serveStream(
  route: StreamRoute,
  exchange: HttpExchange,
  call: ActiveCall,
  values: ContextValues,
  options: StreamCallOptions,
): Promise<void> {
  const state: { decided: boolean } = { decided: false };
  let duplex: DuplexStream | undefined;

  function decide(): void {
    if (state.decided) throw new Error("whether this stream is accepted has been decided before");
    state.decided = true;
  }

  function answer(status: number, reason: string, header?: HeadersInit): void {
    state.decided = true;
    if (exchange.closed) return;
    const body = new TextEncoder().encode(`${reason}\n`);
    const head = new Headers(header);
    head.set("content-type", "text/plain; charset=utf-8");
    head.set("content-length", String(body.byteLength));
    call.bytesOut += body.byteLength;
    exchange.sendHead(status, head);
    exchange.write([body]);
    exchange.end();
  }

  /** Answers with the failure, or cuts what has been accepted. */
  function fail(error: unknown): void {
    if (call.closed) return;
    // What fails once the call has been ended, or the stream cut, fails because of that.
    const failure = call.error ?? options.toConnectError(error);
    call.error = failure;
    if (duplex !== undefined) {
      exchange.reset(failure.code === Code.Internal ? "error" : "canceled");
      return;
    }
    if (state.decided) return;
    // RFC 9110, section 15.5.2.
    const header = new Headers(failure.code === Code.Unauthenticated ? { "www-authenticate": "Bearer" } : undefined);
    const retryAfter = failure.metadata.get("retry-after");
    if (retryAfter !== null) header.set("retry-after", retryAfter);
    answer(codeToHttpStatus(failure.code), boundMessage(failure.rawMessage), header);
  }

  function accept(header: HeadersInit | undefined): BidirectionalStream {
    decide();
    if (call.signal.aborted) throw reasonOf(call.signal);
    const head = new Headers(header);
    if (!head.has("content-type")) head.set("content-type", "application/octet-stream");
    // Asks nginx and its kin not to hold bytes back.
    head.set("x-accel-buffering", "no");
    const output = new CountedOutput(exchange, call);
    /** What waits for the handler, and what the peer may send meanwhile. */
    const pausedMemory = options.streamBufferBytes + pausedBytes(exchange, options.streamWindow);
    let paused = false;
    const made = new DuplexStream(
      {
        write: (pieces, sent) =>
          output.write(pieces, () => {
            call.touch();
            sent();
          }),
        end: () => {
          exchange.end();
        },
        stopReceiving: () => {
          exchange.stopReceiving();
        },
        reset: (why) => {
          call.error ??= new ConnectError("the handler cut the stream", Code.Aborted);
          exchange.reset(why);
        },
        pause: () => {
          exchange.pause();
          paused = call.memory.charge(pausedMemory);
          if (!paused) call.memory.exhausted();
        },
        resume: () => {
          if (paused) call.memory.release(pausedMemory);
          paused = false;
          exchange.resume();
        },
      },
      options.streamBufferBytes,
    );
    duplex = made;
    exchange.split(() => {
      made.onStopped(new ConnectError("the client takes no more of this stream", Code.Canceled));
    });
    exchange.onDrain(() => {
      output.drained();
      made.onDrain();
    });
    exchange.sendHead(200, head);
    exchange.receive({
      onChunk(chunk) {
        call.bytesIn += chunk.byteLength;
        call.touch();
        made.onChunk(chunk);
      },
      onEnd() {
        made.onEnd();
      },
    });
    return { readable: made.readable, writable: made.writable };
  }

  exchange.onClose((complete) => {
    if (!complete) duplex?.onBroken(call.error ?? new ConnectError("the client went away", Code.Canceled));
  });
  call.onAbort((reason) => {
    if (call.closed) return;
    duplex?.stopReceiving(reason);
    // The handler hears of it first, and may have an answer.
    setImmediate(() => {
      if (!state.decided) fail(reason);
    });
  });

  try {
    if (!methods.includes(exchange.method)) {
      options.onDenied(405);
      answer(405, `a stream at ${route.path} is asked for with ${methods.join(" or ")}`, { allow: methods.join(", ") });
      return;
    }
    if (!exchange.fullDuplex) {
      options.onDenied(505);
      answer(
        505,
        `a stream at ${route.path} needs HTTP/2 or HTTP/3: over HTTP/1.1 no side can write while the other does`,
      );
      return;
    }
    await options.gate(route, exchange.header, values);
    await route.handler(
      requestOf(exchange, call, values, {
        accept: ({ header } = {}) => accept(header),
        deny(status, reason, { header } = {}) {
          if (!Number.isInteger(status) || status < 400 || status > 599) {
            throw new RangeError(`a stream is denied with a status from 400 to 599, not ${status}`);
          }
          decide();
          options.onDenied(status);
          answer(status, reason, header);
        },
      }),
    );
    if (!state.decided) throw new Error(`the handler of ${route.path} has neither accepted nor denied the stream`);
  } catch (error) {
    fail(error);
  }
}

function requestOf(
  { path, url, header, peer, httpVersion }: HttpExchange,
  { signal }: ActiveCall,
  values: ContextValues,
  decisions: Pick<StreamRequest, "accept" | "deny">,
): StreamRequest {
  return { path, url, query: new URL(url).searchParams, header, values, peer, httpVersion, signal, ...decisions };
}
