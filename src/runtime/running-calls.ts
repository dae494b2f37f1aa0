import { Code, ConnectError, createContextKey } from "@connectrpc/connect";
import type { ContextValues } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { Bag } from "../async/bag.ts";
import type { Placed } from "../async/bag.ts";
import { ActiveCall } from "./active-call.ts";
import type { CallLimits } from "./active-call.ts";
import { codeOf } from "./call-code.ts";
import { callKey } from "./call.ts";
import type { Call } from "./call.ts";
import { CallValues } from "./call-values.ts";
import type { HttpExchange } from "./exchange.ts";
import type { MemoryBudget } from "./memory-budget.ts";

/** What a call was and how it went, for the log and the metrics. */
export interface CallRecord {
  readonly procedure: string;
  readonly shape: Call["shape"];
  readonly protocol: Call["protocol"];
  readonly httpVersion: string;
  readonly peer: string;
  /**
   * "ok", or the name of the RPC's code as in `not_found`, in every protocol. An answer of HTTP's alone counts as the
   * code that the status comes closest to: `unknown` for 405, 415 and 505, and for a stream that its handler denies
   * `permission_denied` with 403, `not_found` with 404, `aborted` with 409.
   */
  readonly code: string;
  readonly messagesIn: number;
  readonly messagesOut: number;
  /** Bytes of the bodies, as they were on the wire. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly durationMs: number;
  readonly values: ContextValues;
}

/** What a connection's owner wants to know of its calls. */
export interface ConnectionCalls {
  callBegan(connection: object | undefined): void;
  callEnded(
    connection: object | undefined,
    outcome: {
      /** Its token was accepted, or it needs none. */
      readonly admitted: boolean;
      /** The peer has not waited for its end. */
      readonly abandoned: boolean;
    },
  ): void;
}

export interface RunningCallsOptions {
  /** Milliseconds, as all that follow. */
  readonly unaryTimeout: number;
  readonly streamTimeout: number;
  readonly streamIdleTimeout: number;
  readonly memory: MemoryBudget;
  /** Called once for each call, when it is over. */
  readonly onCallEnd?: ((record: CallRecord) => void) | undefined;
  /** Hears of the calls of each connection. */
  readonly connections?: ConnectionCalls | undefined;
}

/** The call as the runtime knows it, among the values of its context. */
export const activeCallKey = createContextKey<ActiveCall | undefined>(undefined, {
  description: "the runtime's call",
});

/** The calls in flight. */
export class RunningCalls {
  readonly #running = new Bag<RunningCall>();
  readonly #options: RunningCallsOptions;
  readonly #unary: CallLimits;
  readonly #streaming: CallLimits;
  #waitingForIdle: (() => void)[] = [];

  constructor(options: RunningCallsOptions) {
    this.#options = options;
    this.#unary = { timeoutMs: options.unaryTimeout, timeoutOption: "--unary-timeout" };
    this.#streaming = {
      timeoutMs: options.streamTimeout,
      timeoutOption: "--stream-timeout",
      idleMs: options.streamIdleTimeout,
    };
  }

  get size(): number {
    return this.#running.size;
  }

  /** Counts a call, from here until it is over. `cut` resets its stream if it cannot end in order. */
  begin(
    exchange: HttpExchange,
    about: Pick<Call, "procedure" | "shape" | "protocol">,
    cut: { reset(): void } = exchange,
  ): RunningCall {
    const { httpVersion, peer } = exchange;
    const limits = about.shape === "unary" ? this.#unary : this.#streaming;
    const call = new ActiveCall({ ...about, httpVersion, peer }, limits, cut, this.#options.memory);
    const running = new RunningCall(exchange, call, this);
    this.#running.add(running);
    this.#options.connections?.callBegan(exchange.connection);
    return running;
  }

  /** For calls that are over. */
  ended(running: RunningCall, complete: boolean, response: UniversalServerResponse | undefined): void {
    const { call, exchange, values } = running;
    this.#running.delete(running);
    this.#options.connections?.callEnded(exchange.connection, {
      admitted: call.admitted,
      abandoned: !complete && !call.ended,
    });
    if (this.#running.size === 0) {
      for (const resolve of this.#waitingForIdle) resolve();
      this.#waitingForIdle = [];
    }
    this.#options.onCallEnd?.({
      procedure: call.procedure,
      shape: call.shape,
      protocol: call.protocol,
      httpVersion: call.httpVersion,
      peer: call.peer,
      code: codeOf(call, response),
      messagesIn: call.messagesIn,
      messagesOut: call.messagesOut,
      bytesIn: call.bytesIn,
      bytesOut: call.bytesOut,
      durationMs: Math.round((performance.now() - call.startedAt) * 1000) / 1000,
      values,
    });
  }

  /** Ends every call with the reason; with `connection`, the calls on it. */
  end(reason: ConnectError, connection?: object): void {
    for (const { call, exchange } of this.#running.toArray()) {
      if (connection === undefined || exchange.connection === connection) call.end(reason);
    }
  }

  /** Resolves when no call is in flight. */
  idle(): Promise<void> {
    if (this.#running.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waitingForIdle.push(resolve));
  }
}

/** A call in flight, what carries it, and what is done once it is over. */
export class RunningCall implements Placed {
  place = -1;
  readonly exchange: HttpExchange;
  readonly call: ActiveCall;
  readonly values: ContextValues = new CallValues();
  readonly #calls: RunningCalls;
  /** The exchange and the handler: until both are done, either may hold what the call is charged for. */
  #holders = 2;
  #over = false;

  constructor(exchange: HttpExchange, call: ActiveCall, calls: RunningCalls) {
    this.exchange = exchange;
    this.call = call;
    this.#calls = calls;
    this.values.set(callKey, call);
    this.values.set(activeCallKey, call);
  }

  /** To be called when the exchange is over: `complete` with a whole response. Has an effect once. */
  end(complete: boolean, response: UniversalServerResponse | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.call.close(complete ? undefined : new ConnectError("the client went away", Code.Canceled));
    this.#release();
    this.#calls.ended(this, complete, response);
  }

  /** To be called when the handler is done. */
  handled(): void {
    this.#release();
  }

  #release(): void {
    if (--this.#holders === 0) this.call.memory.close();
  }
}
