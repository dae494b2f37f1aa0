import { Code, ConnectError } from "@connectrpc/connect";
import type { ServiceImpl } from "@connectrpc/connect";
import { HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import type { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { reasonOf } from "../async/signals.ts";
import { quote } from "../clip.ts";
import { callKey } from "../runtime/call.ts";
import { callEndOf } from "./call-end.ts";
import type { CallEnd } from "./call-end.ts";

/** Which services serve; "" stands for the whole server. */
export class HealthState {
  readonly #serving: Map<string, boolean>;
  readonly #listeners = new Set<() => void>();

  constructor(services: readonly string[]) {
    this.#serving = new Map(services.map((service) => [service, true]));
  }

  /** The names, without "". */
  get services(): string[] {
    return [...this.#serving.keys()].filter((service) => service !== "");
  }

  statusOf(service: string): Status {
    const serving = this.#serving.get(service);
    if (serving === undefined) return Status.SERVICE_UNKNOWN;
    return serving ? Status.SERVING : Status.NOT_SERVING;
  }

  setAllServing(serving: boolean): void {
    for (const service of this.#serving.keys()) this.#serving.set(service, serving);
    for (const listener of [...this.#listeners]) listener();
  }

  /** Resolves at the next change; rejects with the reason when the call ends. */
  change(call: CallEnd): Promise<void> {
    return new Promise((resolve, reject) => {
      let cleanup = (): void => undefined;
      const done = (): void => {
        cleanup();
        this.#listeners.delete(done);
        resolve();
      };
      this.#listeners.add(done);
      cleanup = call.onAbort((reason) => {
        this.#listeners.delete(done);
        reject(reason);
      });
    });
  }
}

/**
 * The health service (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
 * A Watch ends with `drainSignal`, after it has told the last status.
 */
export function createHealthService(state: HealthState, drainSignal: AbortSignal): ServiceImpl<typeof Health> {
  async function* statuses(service: string, call: CallEnd): AsyncGenerator<{ status: Status }> {
    let last: Status | undefined;
    for (;;) {
      const status = state.statusOf(service);
      if (status !== last) {
        last = status;
        yield { status };
        // It may have changed while the client took the message.
        continue;
      }
      if (drainSignal.aborted) throw reasonOf(drainSignal);
      await state.change(call);
    }
  }

  return {
    check({ service }) {
      const status = state.statusOf(service);
      if (status === Status.SERVICE_UNKNOWN) {
        throw new ConnectError(
          `there is no service ${quote(service)} here: ask for "", or one of ${state.services.join(", ")}`,
          Code.NotFound,
        );
      }
      return { status };
    },

    list() {
      return {
        statuses: Object.fromEntries(["", ...state.services].map((name) => [name, { status: state.statusOf(name) }])),
      };
    },

    // A generator keeps its arguments for as long as it lives: it gets the name, and not the request.
    watch({ service }, context) {
      // Nothing may change for days, and gRPC's clients take the end of a watch for an unhealthy service.
      context.values.get(callKey)?.mayIdle();
      return statuses(service, callEndOf(context));
    },
  };
}
