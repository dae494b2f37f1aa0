import type { DescMessage, DescMethod, DescService } from "@bufbuild/protobuf";
import { createConnectRouter, createMethodImplSpec, createServiceImplSpec } from "@connectrpc/connect";
import type { ConnectRouter, ConnectRouterOptions, MethodImplSpec } from "@connectrpc/connect";
import { createMethodSerializationLookup } from "@connectrpc/connect/protocol";
import type { MethodSerializationLookup, UniversalHandler } from "@connectrpc/connect/protocol";
import { compileDecoder } from "../wire/message-decoder.ts";
import type { MessageDecoder } from "../wire/message-decoder.ts";
import { compileJsonWeight } from "../wire/json-weight.ts";
import { compileEncoder } from "../wire/message-encoder.ts";
import type { MessageEncoder } from "../wire/message-encoder.ts";
import { withRequestFaults } from "./request-faults.ts";
import { compileWeight } from "../wire/message-weight.ts";
import type { Weigh } from "../wire/message-weight.ts";

/** A method: Connect's handler for it, and its implementation if the runtime may serve it itself. */
export interface Route {
  readonly handler: UniversalHandler;
  readonly requests: RequestLimits;
  readonly enveloped: EnvelopedRoute | undefined;
}

/** What bounds the requests of a method. */
export interface RequestLimits {
  /** Bytes of a message, once it is inflated. */
  readonly maxMessageBytes: number;
  readonly weigh: Weigh;
  readonly weighJson: Weigh;
}

/** What serves a method with messages in envelopes: streams, and in gRPC and gRPC-Web unary calls too. */
export interface EnvelopedRoute {
  readonly spec: MethodImplSpec;
  readonly codec: MethodSerializationLookup<DescMessage, DescMessage>;
  /** Decodes the binary form of requests, as far as it knows them. */
  readonly decode: MessageDecoder | undefined;
  /** Encodes the binary form of responses. */
  readonly encode: MessageEncoder;
}

/** What an envelope's prefix can say. */
const writeMaxBytes = 0xffffffff;

/**
 * Unknown fields of requests are dropped: decoded, each would be an object of
 * its own, of many times its size, and nothing here passes requests on.
 */
const binaryOptions = { readUnknownFields: false } as const;

export interface RouteOptions extends Omit<ConnectRouterOptions, "readMaxBytes" | "binaryOptions"> {
  /** Bytes of a message of the service. */
  readonly maxMessageBytesOf: (service: DescService) => number;
  /** Fields, map entries and repeated elements of a message. */
  readonly maxMessageElements: number;
}

/**
 * Collects the methods that `register` adds, by their path. A service or method
 * that is added with options of its own, other than those for JSON, is left to
 * Connect's handlers, which know what they mean.
 */
export function collectRoutes(
  register: (router: ConnectRouter) => void,
  { maxMessageBytesOf, maxMessageElements, ...options }: RouteOptions,
): ReadonlyMap<string, Route> {
  const connectRouter = createConnectRouter({ ...options, binaryOptions });
  const enveloped = new Map<DescMethod, EnvelopedRoute>();
  const requests = new Map<DescMethod, RequestLimits>();
  const limited = (service: DescService, own: ConnectRouterOptions | undefined): ConnectRouterOptions => {
    const readMaxBytes = Math.min(maxMessageBytesOf(service), own?.readMaxBytes ?? Infinity);
    return { ...own, readMaxBytes, binaryOptions: { ...binaryOptions, ...own?.binaryOptions } };
  };
  const add = (spec: MethodImplSpec, given: ConnectRouterOptions = {}): void => {
    const { jsonOptions, ...own } = given;
    const { readMaxBytes = 0 } = limited(spec.method.parent, given);
    requests.set(spec.method, {
      maxMessageBytes: readMaxBytes,
      weigh: compileWeight(spec.method.input, maxMessageElements),
      weighJson: compileJsonWeight(spec.method.input, maxMessageElements),
    });
    if (Object.keys(own).length > 0) {
      // It may have been added before, without.
      enveloped.delete(spec.method);
      return;
    }
    const limits = { readMaxBytes, writeMaxBytes };
    enveloped.set(spec.method, {
      spec,
      codec: withRequestFaults(createMethodSerializationLookup(spec.method, binaryOptions, jsonOptions, limits)),
      decode: compileDecoder(spec.method.input),
      encode: compileEncoder(spec.method.output),
    });
  };
  const router: ConnectRouter = {
    handlers: connectRouter.handlers,
    service(service: DescService, implementation, own) {
      connectRouter.service(service, implementation, limited(service, besides(own, options)));
      for (const spec of Object.values(createServiceImplSpec(service, implementation).methods)) add(spec, own);
      return router;
    },
    rpc(method, implementation, own) {
      connectRouter.rpc(method, implementation, limited(method.parent, besides(own, options)));
      add(createMethodImplSpec(method, implementation), own);
      return router;
    },
  };
  register(router);
  const routes = new Map<string, Route>();
  for (const handler of connectRouter.handlers) {
    const limits = requests.get(handler.method);
    if (limits === undefined) throw new Error(`${handler.requestPath} was added past this router`);
    routes.set(handler.requestPath, { handler, requests: limits, enveloped: enveloped.get(handler.method) });
  }
  return routes;
}

/** Connect would take the interceptors and the gate of a service in place of those for all services. */
function besides(
  own: Partial<ConnectRouterOptions> | undefined,
  { interceptors, requestGate }: Partial<ConnectRouterOptions>,
): Partial<ConnectRouterOptions> | undefined {
  if (own === undefined) return undefined;
  const { requestGate: ownGate } = own;
  return {
    ...own,
    interceptors: [...(interceptors ?? []), ...(own.interceptors ?? [])],
    async requestGate(context) {
      await requestGate?.(context);
      await ownGate?.(context);
    },
  };
}
