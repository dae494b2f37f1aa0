import { create } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import type { Any } from "@bufbuild/protobuf/wkt";
import type { ConnectRouter, HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { setTimeout as delay } from "node:timers/promises";
import { callKey } from "../../src/runtime/call.ts";
import { appendHeaders, registry, toConnectError, toWireHeaders } from "./convert.ts";
import {
  BidiStreamRequestSchema,
  ClientStreamRequestSchema,
  ConformancePayload_RequestInfoSchema,
  ConformanceService,
  IdempotentUnaryRequestSchema,
  ServerStreamRequestSchema,
  UnaryRequestSchema,
} from "./gen/connectrpc/conformance/v1/service_pb.ts";
import type {
  ConformancePayloadSchema,
  ConformancePayload_RequestInfo,
  StreamResponseDefinition,
  UnaryResponseDefinition,
} from "./gen/connectrpc/conformance/v1/service_pb.ts";

type Payload = MessageInitShape<typeof ConformancePayloadSchema>;

/**
 * Serves the suite's service, as its definition describes it. Handlers do not
 * look at their signal: a deadline must hold without their help. Where the first
 * message says which headers to send, they hold them until they have read it.
 */
export function registerConformance(router: ConnectRouter): void {
  router.service(ConformanceService, implementation, { jsonOptions: { registry } });
}

/** `unimplemented` is left out: the router answers it. */
const implementation: Omit<ServiceImpl<typeof ConformanceService>, "unimplemented"> = {
  async unary(request, context) {
    return { payload: await answer(request.responseDefinition, [anyPack(UnaryRequestSchema, request)], context) };
  },

  async idempotentUnary(request, context) {
    const requests = [anyPack(IdempotentUnaryRequestSchema, request)];
    return { payload: await answer(request.responseDefinition, requests, context) };
  },

  async clientStream(incoming, context) {
    let definition: UnaryResponseDefinition | undefined;
    const requests: Any[] = [];
    context.values.get(callKey)?.holdHeaders();
    for await (const request of incoming) {
      if (requests.length === 0) definition = request.responseDefinition;
      requests.push(anyPack(ClientStreamRequestSchema, request));
    }
    return { payload: await answer(definition, requests, context) };
  },

  async *serverStream(request, context) {
    const definition = request.responseDefinition;
    if (definition === undefined) return;
    setMetadata(context, definition);
    const info = requestInfo(context, [anyPack(ServerStreamRequestSchema, request)]);
    for (const payload of payloads(definition, 0, info)) {
      await delay(definition.responseDelayMs);
      yield { payload };
    }
    throwIfAsked(definition, info);
  },

  async *bidiStream(incoming, context) {
    let definition: StreamResponseDefinition | undefined;
    let fullDuplex = false;
    let first = true;
    let sent = 0;
    /** Those that no response has described. */
    let requests: Any[] = [];
    context.values.get(callKey)?.holdHeaders();
    for await (const request of incoming) {
      if (first) {
        first = false;
        definition = request.responseDefinition;
        fullDuplex = request.fullDuplex;
        if (definition !== undefined) setMetadata(context, definition);
      }
      requests.push(anyPack(BidiStreamRequestSchema, request));
      if (!fullDuplex) continue;
      const data = definition?.responseData[sent];
      if (data === undefined) break;
      await delay(definition?.responseDelayMs);
      // What does not change in the call is said once.
      const info =
        sent === 0 ? requestInfo(context, requests) : create(ConformancePayload_RequestInfoSchema, { requests });
      yield { payload: { data, requestInfo: info } };
      sent++;
      requests = [];
    }
    if (definition === undefined) return;
    const info = requestInfo(context, requests);
    for (const payload of payloads(definition, sent, info)) {
      await delay(definition.responseDelayMs);
      yield { payload };
    }
    throwIfAsked(definition, info);
  },
};

/** The payload of a single response, or the error instead. */
async function answer(
  definition: UnaryResponseDefinition | undefined,
  requests: Any[],
  context: HandlerContext,
): Promise<Payload> {
  const info = requestInfo(context, requests);
  if (definition === undefined) return { requestInfo: info };
  setMetadata(context, definition);
  await delay(definition.responseDelayMs);
  const { response } = definition;
  if (response.case === "error") throw toConnectError(response.value, pack(info));
  return { requestInfo: info, ...(response.case === "responseData" ? { data: response.value } : {}) };
}

/** The payloads of a stream from the given one on. The first of the stream has the requests' description. */
function payloads(definition: StreamResponseDefinition, from: number, info: ConformancePayload_RequestInfo): Payload[] {
  return definition.responseData
    .map((data, index) => (index === 0 ? { data, requestInfo: info } : { data }))
    .slice(from);
}

/** A stream's error. It has the requests' description if no response had it. */
function throwIfAsked({ error, responseData }: StreamResponseDefinition, info: ConformancePayload_RequestInfo): void {
  if (error === undefined) return;
  throw responseData.length === 0 ? toConnectError(error, pack(info)) : toConnectError(error);
}

function setMetadata(context: HandlerContext, definition: UnaryResponseDefinition | StreamResponseDefinition): void {
  appendHeaders(context.responseHeader, definition.responseHeaders);
  appendHeaders(context.responseTrailer, definition.responseTrailers);
}

function requestInfo(context: HandlerContext, requests: Any[]): ConformancePayload_RequestInfo {
  const timeoutMs = context.timeoutMs();
  return create(ConformancePayload_RequestInfoSchema, {
    requestHeaders: toWireHeaders(context.requestHeader),
    requests,
    ...(timeoutMs === undefined ? {} : { timeoutMs: BigInt(Math.ceil(timeoutMs)) }),
    ...(context.requestMethod === "GET"
      ? { connectGetInfo: { queryParams: toWireHeaders(new URL(context.url).searchParams) } }
      : {}),
  });
}

function pack(info: ConformancePayload_RequestInfo): Any {
  return anyPack(ConformancePayload_RequestInfoSchema, info);
}
