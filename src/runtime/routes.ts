import type { DescMessage, DescMethod, DescService } from "@bufbuild/protobuf";
import { createConnectRouter, createMethodImplSpec, createServiceImplSpec } from "@connectrpc/connect";
import type { ConnectRouter, ConnectRouterOptions, MethodImplSpec } from "@connectrpc/connect";
import { createMethodSerializationLookup } from "@connectrpc/connect/protocol";
import type { MethodSerializationLookup, UniversalHandler } from "@connectrpc/connect/protocol";
import { compileDecoder } from "../wire/message-decoder.ts";
import type { MessageDecoder } from "../wire/message-decoder.ts";
import { compileEncoder } from "../wire/message-encoder.ts";
import type { MessageEncoder } from "../wire/message-encoder.ts";
import { withRequestFaults } from "./request-faults.ts";

/** A method: Connect's handler for it, and its implementation if the runtime may serve it itself. */
export interface Route {
  readonly handler: UniversalHandler;
  readonly enveloped: EnvelopedRoute | undefined;
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
 * Collects the methods that `register` adds, by their path. A service or method
 * that is added with options of its own, other than those for JSON, is left to
 * Connect's handlers, which know what they mean.
 */
export function collectRoutes(
  register: (router: ConnectRouter) => void,
  options: ConnectRouterOptions & { readonly readMaxBytes: number },
): ReadonlyMap<string, Route> {
  const connectRouter = createConnectRouter(options);
  const enveloped = new Map<DescMethod, EnvelopedRoute>();
  const add = (spec: MethodImplSpec, { jsonOptions, ...own }: ConnectRouterOptions = {}): void => {
    if (Object.keys(own).length > 0) {
      // It may have been added before, without.
      enveloped.delete(spec.method);
      return;
    }
    const limits = { readMaxBytes: options.readMaxBytes, writeMaxBytes };
    enveloped.set(spec.method, {
      spec,
      codec: withRequestFaults(createMethodSerializationLookup(spec.method, undefined, jsonOptions, limits)),
      decode: compileDecoder(spec.method.input),
      encode: compileEncoder(spec.method.output),
    });
  };
  const router: ConnectRouter = {
    handlers: connectRouter.handlers,
    service(service: DescService, implementation, own) {
      connectRouter.service(service, implementation, besides(own, options));
      for (const spec of Object.values(createServiceImplSpec(service, implementation).methods)) add(spec, own);
      return router;
    },
    rpc(method, implementation, own) {
      connectRouter.rpc(method, implementation, besides(own, options));
      add(createMethodImplSpec(method, implementation), own);
      return router;
    },
  };
  register(router);
  const routes = new Map<string, Route>();
  for (const handler of connectRouter.handlers) {
    routes.set(handler.requestPath, { handler, enveloped: enveloped.get(handler.method) });
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
