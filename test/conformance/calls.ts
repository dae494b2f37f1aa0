/** Makes the calls that the suite describes, and says how they went. */
import { create } from "@bufbuild/protobuf";
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import type { CallOptions, Transport } from "@connectrpc/connect";
import { setTimeout as delay } from "node:timers/promises";
import { createStreamingClient } from "../../src/client/streaming-client.ts";
import { deferred } from "../support/deadline.ts";
import { appendHeaders, toWireError, toWireHeaders } from "./convert.ts";
import { ClientResponseResultSchema } from "./gen/connectrpc/conformance/v1/client_compat_pb.ts";
import type { ClientCompatRequest, ClientResponseResult } from "./gen/connectrpc/conformance/v1/client_compat_pb.ts";
import { StreamType } from "./gen/connectrpc/conformance/v1/config_pb.ts";
import {
  BidiStreamRequestSchema,
  ClientStreamRequestSchema,
  ConformancePayloadSchema,
  ConformanceService,
  IdempotentUnaryRequestSchema,
  ServerStreamRequestSchema,
  UnaryRequestSchema,
  UnimplementedRequestSchema,
} from "./gen/connectrpc/conformance/v1/service_pb.ts";
import type { ConformancePayload } from "./gen/connectrpc/conformance/v1/service_pb.ts";

/** Something that a response carries, but for `unimplemented`, which has none. */
interface Response {
  readonly payload?: ConformancePayload | undefined;
}

/** Makes one call. Fails if it cannot be made; a call that fails is a result. */
export async function makeCall(transport: Transport, request: ClientCompatRequest): Promise<ClientResponseResult> {
  const client = createStreamingClient(ConformanceService, transport);
  const call = new Call(request);
  switch (request.method) {
    case "Unary":
      return call.unary(client.unary, call.onlyMessage(UnaryRequestSchema));
    case "IdempotentUnary":
      return call.unary(client.idempotentUnary, call.onlyMessage(IdempotentUnaryRequestSchema));
    case "Unimplemented":
      return call.unary(async (message, options) => {
        await client.unimplemented(message, options);
        return {};
      }, call.onlyMessage(UnimplementedRequestSchema));
    case "ClientStream":
      return call.unary(client.clientStream, call.stream(ClientStreamRequestSchema));
    case "ServerStream":
      return call.streaming(client.serverStream, call.onlyMessage(ServerStreamRequestSchema));
    case "BidiStream":
      return call.streaming(client.bidiStream, call.stream(BidiStreamRequestSchema));
    default:
      throw new TypeError(`the suite asks for the unknown method ${request.method}`);
  }
}

/** One call: what it sends, when it is cancelled, and what came of it. */
class Call {
  readonly #request: ClientCompatRequest;
  readonly #result: ClientResponseResult = create(ClientResponseResultSchema);
  readonly #controller = new AbortController();
  readonly #over = deferred();
  /** Resolved by the next response. */
  #answered = deferred();
  /** Requests that the transport has not asked for. */
  #unsent = 0;

  constructor(request: ClientCompatRequest) {
    this.#request = request;
  }

  onlyMessage<S extends DescMessage>(schema: S): MessageShape<S> {
    const [message, ...others] = this.#messages(schema);
    if (message === undefined || others.length > 0) throw new TypeError("the suite must give exactly one message");
    this.#cancelAfterCloseSend();
    return message;
  }

  /** The request messages, as slowly as the suite wants them. */
  stream<S extends DescMessage>(schema: S): AsyncIterable<MessageShape<S>> {
    return this.#send(this.#messages(schema));
  }

  async unary<I>(stub: (input: I, options: CallOptions) => Promise<Response>, input: I): Promise<ClientResponseResult> {
    try {
      this.#take(await stub(input, this.#options()));
    } catch (error) {
      this.#fail(error);
    }
    return this.#end();
  }

  async streaming<I>(
    stub: (input: I, options: CallOptions) => AsyncIterable<Response>,
    input: I,
  ): Promise<ClientResponseResult> {
    try {
      for await (const response of stub(input, this.#options())) this.#take(response);
    } catch (error) {
      this.#fail(error);
    }
    return this.#end();
  }

  #messages<S extends DescMessage>(schema: S): MessageShape<S>[] {
    return this.#request.requestMessages.map((any) => {
      const message = anyUnpack(any, schema);
      if (message === undefined) throw new TypeError(`${any.typeUrl} is not ${schema.typeName}`);
      return message;
    });
  }

  async *#send<T>(messages: T[]): AsyncGenerator<T> {
    const { streamType, requestDelayMs, cancel } = this.#request;
    this.#unsent = messages.length;
    for (const message of messages) {
      await delay(requestDelayMs);
      const answered = this.#answered.promise;
      this.#unsent--;
      yield message;
      if (streamType === StreamType.FULL_DUPLEX_BIDI_STREAM) await Promise.race([answered, this.#over.promise]);
    }
    if (cancel?.cancelTiming.case === "beforeCloseSend") this.#controller.abort();
    else this.#cancelAfterCloseSend();
  }

  #cancelAfterCloseSend(): void {
    const { cancel } = this.#request;
    if (cancel === undefined) return;
    const { cancelTiming: timing } = cancel;
    // To say nothing about the time means at once.
    const ms = timing.case === undefined ? 0 : timing.case === "afterCloseSendMs" ? timing.value : undefined;
    if (ms === undefined) return;
    const timer = setTimeout(() => {
      this.#controller.abort();
    }, ms);
    void this.#over.promise.then(() => {
      clearTimeout(timer);
    });
  }

  #options(): CallOptions {
    const { requestHeaders, timeoutMs } = this.#request;
    const headers = new Headers();
    appendHeaders(headers, requestHeaders);
    return {
      headers,
      signal: this.#controller.signal,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      onHeader: (header) => {
        this.#result.responseHeaders = toWireHeaders(header);
      },
      onTrailer: (trailer) => {
        this.#result.responseTrailers = toWireHeaders(trailer);
      },
    };
  }

  #take({ payload }: Response): void {
    const { payloads } = this.#result;
    payloads.push(payload ?? create(ConformancePayloadSchema));
    const timing = this.#request.cancel?.cancelTiming;
    if (timing?.case === "afterNumResponses" && timing.value === payloads.length) this.#controller.abort();
    this.#answered.resolve();
    this.#answered = deferred();
  }

  #fail(thrown: unknown): void {
    const error = ConnectError.from(thrown);
    const metadata = toWireHeaders(error.metadata);
    this.#result.error = toWireError(error);
    this.#result.numUnsentRequests = this.#unsent;
    // An error's metadata are headers and trailers together; the suite takes them in either place.
    if (this.#result.responseHeaders.length === 0) this.#result.responseHeaders = metadata;
    if (this.#result.responseTrailers.length === 0) this.#result.responseTrailers = metadata;
  }

  #end(): ClientResponseResult {
    this.#over.resolve();
    return this.#result;
  }
}
