import type { DescMethod, DescService } from "@bufbuild/protobuf";
import type { ConnectRouter, MethodImpl, ServiceImpl } from "@connectrpc/connect";
import type { UniversalHandlerOptions } from "@connectrpc/connect/protocol";
import { DomainError } from "../errors.ts";
import { parseScope } from "./scopes.ts";
import type { Permission } from "./scopes.ts";

/** How an RPC is served: Connect's options, and who may call it. */
export interface RpcOptions extends Partial<UniversalHandlerOptions> {
  /**
   * The scope that a token must have, such as `rpc:tally.v1.TallyService`, `data:read:logs/app` or `admin`. Default:
   * `rpc:` and the name of the service, or that with the method: `rpc:tally.v1.TallyService/Add`.
   */
  readonly scope?: string;
}

/** How the RPCs of a service are served. */
export interface ServiceOptions<T extends DescService = DescService> extends Partial<UniversalHandlerOptions> {
  /** As in `RpcOptions`: for all methods, or for some, by the names that they have in the implementation. */
  readonly scope?: string | { readonly [Method in keyof T["method"]]?: string };
}

/**
 * Connect's router, whose services say who may call them.
 *
 * ```ts
 * router.service(TallyService, tally); // needs the scope rpc:tally.v1.TallyService
 * router.service(TallyService, tally, { scope: { reset: "admin" } });
 * ```
 */
export interface ServiceRouter extends ConnectRouter {
  service: <T extends DescService>(
    service: T,
    implementation: Partial<ServiceImpl<T>>,
    options?: ServiceOptions<T>,
  ) => this;
  rpc: <M extends DescMethod>(method: M, implementation: MethodImpl<M>, options?: RpcOptions) => this;
}

/** What each method needs, besides a valid token. */
export class CallScopes {
  readonly #needed = new Map<DescMethod, Permission>();

  /** Undefined if a valid token is enough, or the method itself looks at its scopes. */
  of(method: DescMethod): Permission | undefined {
    return this.#needed.get(method);
  }

  /** Sets what all methods of a service need. Fails with "config" if that is not a scope. */
  setService(service: DescService, scope: string): void {
    for (const method of service.methods) this.setMethod(method, scope);
  }

  /** The same for one method. By default it is the scope with its name, or with the name of its service. */
  setMethod(method: DescMethod, scope: string | undefined): void {
    const name = `${method.parent.typeName}/${method.name}`;
    this.#needed.set(method, scope === undefined ? { kind: "rpc", name } : parseScope(scope));
  }

  /** A router that adds its services to `router`, and notes here what they need. */
  router(router: ConnectRouter): ServiceRouter {
    const scoped: ServiceRouter = {
      get handlers() {
        // What would be added here instead of by the methods would have no gate.
        return Object.freeze([...router.handlers]) as typeof router.handlers;
      },
      service: (service, implementation, { scope, ...options } = {}) => {
        const byMethod = typeof scope === "object" ? scope : undefined;
        const unknown = Object.keys(byMethod ?? {}).find((name) => !Object.hasOwn(service.method, name));
        if (unknown !== undefined) {
          const names = Object.keys(service.method).join(", ");
          const detail = `scope: ${service.typeName} has no method "${unknown}", its methods are ${names}`;
          throw new DomainError({ kind: "config", detail });
        }
        for (const method of service.methods) {
          this.setMethod(method, byMethod === undefined ? (scope as string | undefined) : byMethod[method.localName]);
        }
        router.service(service, implementation, options);
        return scoped;
      },
      rpc: (method, implementation, { scope, ...options } = {}) => {
        this.setMethod(method, scope);
        router.rpc(method, implementation, options);
        return scoped;
      },
    };
    return scoped;
  }
}
