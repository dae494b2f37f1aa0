import { create } from "@bufbuild/protobuf";
import type {
  DescMessage,
  DescMethodStreaming,
  JsonReadOptions,
  JsonWriteOptions,
  Message,
  MessageInitShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError, createContextValues } from "@connectrpc/connect";
import type { Interceptor, StreamRequest, StreamResponse, Transport } from "@connectrpc/connect";
import { createMethodSerializationLookup, createMethodUrl } from "@connectrpc/connect/protocol";
import type { Compression } from "@connectrpc/connect/protocol";
import { linkSignals, onAbort, reasonOf } from "../async/signals.ts";
import { maxTimerMs } from "../async/timers.ts";
import type { ByteSink } from "../wire/byte-sink.ts";
import { compileDecoder } from "../wire/message-decoder.ts";
import { compileEncoder } from "../wire/message-encoder.ts";
import type { MessageEncoder } from "../wire/message-encoder.ts";
import { MessageReader } from "../wire/message-reader.ts";
import { MessageWriter } from "../wire/message-writer.ts";
import type { Turns } from "../wire/message-writer.ts";
import { deadlineAfter, orDeadline } from "./deadline.ts";
import type { ClientExchange, OpenExchange } from "./client-exchange.ts";
import { clientStreamProtocols } from "./stream-protocols.ts";
import type { ResponseReading } from "./stream-protocols.ts";

export interface StreamTransportOptions {
  readonly baseUrl: string;
  readonly protocol: keyof typeof clientStreamProtocols;
  /** Protobuf's binary form rather than JSON. */
  readonly useBinaryFormat: boolean;
  readonly jsonOptions: Partial<JsonReadOptions & JsonWriteOptions> | undefined;
  readonly interceptors: readonly Interceptor[];
  readonly acceptCompression: Compression[];
  readonly sendCompression: Compression | null;
  /** Bytes. */
  readonly compressMinBytes: number;
  /** Bytes. A larger message fails with RESOURCE_EXHAUSTED. */
  readonly readMaxBytes: number;
  /** Bytes of responses that wait for their reader before the server is asked to pause. */
  readonly streamBufferBytes: number;
  /** Milliseconds. */
  readonly defaultTimeoutMs: number | undefined;
  readonly open: OpenExchange;
  readonly sink: ByteSink;
  readonly turns: Turns;
  readonly allocate: (size: number) => Uint8Array<ArrayBuffer>;
}

const writeMaxBytes = 0xffffffff;

type Method = DescMethodStreaming;
type Next = (req: StreamRequest) => Promise<StreamResponse>;

/** The streaming half of a Connect transport, on whatever carries an HTTP exchange. */
export function createStreamTransport(options: StreamTransportOptions): Transport["stream"] {
  const codecs = new Map<Method, Codec>();

  function codecOf(method: Method): Codec {
    let codec = codecs.get(method);
    if (codec === undefined) codecs.set(method, (codec = createCodec(method, options)));
    return codec;
  }

  return async function stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: AsyncIterable<MessageInitShape<I>>,
    contextValues = createContextValues(),
  ): Promise<StreamResponse<I, O>> {
    const limitMs = timeoutMs === undefined ? options.defaultTimeoutMs : timeoutMs <= 0 ? undefined : timeoutMs;
    const deadline = deadlineAfter(limitMs);
    const call = linkSignals(signal);
    const timer =
      limitMs === undefined
        ? undefined
        : setTimeout(
            () => {
              call.abort(new ConnectError("the operation timed out", Code.DeadlineExceeded));
            },
            Math.min(limitMs, maxTimerMs),
          );
    const over = (): void => {
      clearTimeout(timer);
      call.cleanup();
    };
    const fail = (error: unknown): never => {
      over();
      // Why the call was ended counts for more than what came of it.
      throw call.signal.aborted
        ? ConnectError.from(reasonOf(call.signal), Code.Canceled)
        : orDeadline(ConnectError.from(error), deadline);
    };
    const protocol = clientStreamProtocols[options.protocol];
    const innermost: Next = (req) => new StreamCall(req, codecOf(req.method), options).start();
    const chain = options.interceptors.reduceRight(
      (next, interceptor) => interceptor(next as never) as unknown as Next,
      innermost,
    );
    try {
      const response = await chain({
        stream: true,
        service: method.parent,
        method,
        requestMethod: "POST",
        url: createMethodUrl(options.baseUrl, method),
        signal: call.signal,
        header: protocol.requestHeader({
          method,
          binary: options.useBinaryFormat,
          timeoutMs: limitMs,
          header,
          acceptCompression: options.acceptCompression,
          sendCompression: options.sendCompression,
        }),
        contextValues,
        message: complete(method.input, input) as AsyncIterable<never>,
      });
      return { ...response, message: watched(response.message, call.abort, over, fail) } as StreamResponse<I, O>;
    } catch (error) {
      return fail(error);
    }
  };
}

/** Callers may give plain objects: interceptors and the wire get messages. */
function complete(desc: DescMessage, input: AsyncIterable<MessageInitShape<DescMessage>>): AsyncIterable<Message> {
  return {
    [Symbol.asyncIterator]() {
      const it = input[Symbol.asyncIterator]();
      const toMessage = (result: IteratorResult<MessageInitShape<DescMessage>>): IteratorResult<Message> =>
        result.done === true ? result : { done: false, value: create(desc, result.value) };
      return {
        next: () => it.next().then(toMessage),
        return: (value?: unknown) =>
          it.return?.(value).then(toMessage) ?? Promise.resolve({ done: true as const, value: undefined }),
        throw: (error?: unknown) => it.throw?.(error).then(toMessage) ?? Promise.reject(error),
      };
    },
  };
}

/** The responses; ends the call when they are over, or left early. */
function watched<T>(
  messages: AsyncIterable<T>,
  abort: (reason: Error) => void,
  over: () => void,
  fail: (error: unknown) => never,
): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator]() {
      const it = messages[Symbol.asyncIterator]();
      const ended = (result: IteratorResult<T>): IteratorResult<T> => {
        if (result.done === true) over();
        return result;
      };
      const leave = (): void => {
        abort(new ConnectError("the responses were left", Code.Canceled));
        over();
      };
      return {
        next: () => it.next().then(ended, fail),
        return(value?: unknown) {
          leave();
          return Promise.resolve({ done: true as const, value });
        },
        throw(error?: unknown) {
          leave();
          return Promise.reject(error);
        },
      };
    },
  };
}

interface Codec {
  readonly serialize: (message: Message) => Uint8Array;
  readonly encode: MessageEncoder | undefined;
  readonly parse: (payload: Uint8Array) => Message;
}

function createCodec(method: Method, options: StreamTransportOptions): Codec {
  const { useBinaryFormat, jsonOptions, readMaxBytes } = options;
  const lookup = createMethodSerializationLookup(method, undefined, jsonOptions, { readMaxBytes, writeMaxBytes });
  const input = lookup.getI(useBinaryFormat);
  const output = lookup.getO(useBinaryFormat);
  const decode = useBinaryFormat ? compileDecoder(method.output) : undefined;
  return {
    serialize: (message) => input.serialize(message),
    encode: useBinaryFormat ? compileEncoder(method.input) : undefined,
    parse:
      decode === undefined ? (payload) => output.parse(payload) : (payload) => decode(payload) ?? output.parse(payload),
  };
}

/** One call: what goes out, what comes back, and one end for both. */
class StreamCall {
  readonly #req: StreamRequest;
  readonly #codec: Codec;
  readonly #options: StreamTransportOptions;
  readonly #head = Promise.withResolvers<StreamResponse>();
  #exchange: ClientExchange | undefined;
  #writer: MessageWriter | undefined;
  #reader: MessageReader<Message> | undefined;
  #httpTrailer = new Headers();
  #requests: AsyncIterator<unknown> | undefined;
  #unlink = (): void => undefined;
  #over = false;

  constructor(req: StreamRequest, codec: Codec, options: StreamTransportOptions) {
    this.#req = req;
    this.#codec = codec;
    this.#options = options;
  }

  /** Resolves with the response once its head is there. */
  async start(): Promise<StreamResponse> {
    const { requestMethod, url, header, signal } = this.#req;
    this.#unlink = onAbort(signal, (reason) => {
      this.#reader?.fail(reason, true);
      this.#fail(ConnectError.from(reason, Code.Canceled));
    });
    // Whoever waits for the head is told below; nobody else is there.
    this.#head.promise.catch(() => undefined);
    if (!this.#over) {
      try {
        const exchange = await this.#options.open({ method: requestMethod, url, header }, this);
        this.#begin(exchange);
      } catch (error) {
        this.#fail(ConnectError.from(error, Code.Unavailable));
      }
    }
    return this.#head.promise;
  }

  onHead(status: number, header: Headers): void {
    if (this.#over) return;
    const { acceptCompression, useBinaryFormat, protocol, readMaxBytes, streamBufferBytes, allocate, turns } =
      this.#options;
    const { method } = this.#req;
    let reading: ResponseReading;
    try {
      reading = clientStreamProtocols[protocol].readResponse(
        method,
        acceptCompression,
        useBinaryFormat,
        status,
        header,
      );
    } catch (error) {
      this.#fail(ConnectError.from(error));
      return;
    }
    this.#reader = new MessageReader<Message>({
      source: {
        pause: () => this.#exchange?.pause(),
        resume: () => this.#exchange?.resume(),
      },
      parse: this.#codec.parse,
      compression: reading.compression,
      maxMessageBytes: readMaxBytes,
      maxQueuedBytes: streamBufferBytes,
      truncated: Code.Internal,
      ...(reading.end === undefined ? {} : { end: reading.end }),
      onComplete: () => {
        reading.complete(this.#httpTrailer);
        this.#finish();
      },
      onFailure: (error) => {
        this.#fail(ConnectError.from(error));
      },
      allocate,
      nextTurn: turns.next,
    });
    this.#head.resolve({
      ...this.#req,
      header,
      trailer: reading.trailer,
      message: this.#reader as AsyncIterable<never>,
    });
  }

  onChunk(chunk: Uint8Array): void {
    this.#reader?.onChunk(chunk);
  }

  onLent(chunk: Uint8Array): void {
    this.#reader?.onLent(chunk);
  }

  onEnd(trailer: Headers): void {
    this.#httpTrailer = trailer;
    // What is still being sent has no reader any more.
    this.#stopSending();
    this.#reader?.onEnd();
  }

  onError(error: ConnectError): void {
    this.#fail(error, true);
  }

  onDrain(): void {
    this.#writer?.drained();
  }

  #begin(exchange: ClientExchange): void {
    this.#exchange = exchange;
    if (this.#over) {
      exchange.reset("canceled");
      return;
    }
    const { sink, sendCompression, compressMinBytes, turns } = this.#options;
    this.#writer = new MessageWriter({
      write: (pieces, sent) => exchange.write(pieces, sent),
      sink,
      codec: this.#codec,
      compression: sendCompression,
      compressMinBytes,
      turns,
    });
    this.#send(this.#writer, exchange).catch((error: unknown) => {
      this.#fail(ConnectError.from(error, Code.Internal));
    });
  }

  async #send(writer: MessageWriter, exchange: ClientExchange): Promise<void> {
    const requests = (this.#req.message as AsyncIterable<Message>)[Symbol.asyncIterator]();
    this.#requests = requests;
    for (let next = await requests.next(); next.done !== true; next = await requests.next()) {
      if (writer.closed) return;
      const full = writer.add(next.value);
      if (full !== undefined) await full;
    }
    this.#requests = undefined;
    if (writer.closed) return;
    writer.end();
    exchange.end();
  }

  /** The first failure is the call's. Responses that have come before it can still be read. */
  #fail(error: ConnectError, broken = false): void {
    if (this.#over) return;
    this.#finish();
    this.#head.reject(error);
    this.#reader?.fail(error);
    // Whoever makes the requests may want to know; what comes of it is theirs.
    this.#requests?.throw?.(error).catch(() => undefined);
    this.#stopSending();
    if (!broken) this.#exchange?.reset(error.code === Code.Canceled ? "canceled" : "error");
  }

  #finish(): void {
    this.#over = true;
    this.#unlink();
  }

  #stopSending(): void {
    this.#writer?.close();
    this.#requests?.return?.().catch(() => undefined);
    this.#requests = undefined;
  }
}
