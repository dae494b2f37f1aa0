import type { DescService } from "@bufbuild/protobuf";
import { ConnectError, createClient } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import { expect, onTestFinished } from "vitest";
import { DataErrorSchema } from "../../gen/data/v1/data_pb.ts";
import type { DataError } from "../../gen/data/v1/data_pb.ts";
import { BoundedQueue } from "../../src/async/queue.ts";
import { within } from "./deadline.ts";
import { createTransport } from "./transports.ts";
import type { Lane } from "./transports.ts";

export const h2c = {
  connect: { protocol: "connect", httpVersion: "2", tls: false },
  grpc: { protocol: "grpc", httpVersion: "2", tls: false },
  "grpc-web": { protocol: "grpc-web", httpVersion: "2", tls: false },
} as const satisfies Record<string, Lane>;

/** A generated client whose connections are closed at the end of the test. */
export function useClient<S extends DescService>(service: S, url: string, lane: Lane = h2c.grpc): Client<S> {
  const made = createTransport(lane, url);
  onTestFinished(made.close);
  return createClient(service, made.transport);
}

/** What the call fails with. */
export async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  const outcome: unknown = await within(
    10_000,
    "the call's failure",
    call.then(
      (value) => ({ value }),
      (error: unknown) => error,
    ),
  );
  expect(outcome, "the call succeeded").toBeInstanceOf(ConnectError);
  return outcome as ConnectError;
}

/** The one detail of a failure of DataService. */
export function dataErrorOf(error: ConnectError): DataError {
  const [detail, ...others] = error.findDetails(DataErrorSchema);
  expect(others).toEqual([]);
  if (detail === undefined) throw new Error(`no DataError in: ${error.message}`, { cause: error });
  return detail;
}

/** Everything that a call sends, until it ends. */
export async function collect<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  const run = async (): Promise<void> => {
    for await (const message of messages) all.push(message);
  };
  await within(10_000, "the end of the call", run());
  return all;
}

/** A call's messages, taken one by one, each with a deadline. */
export class Taker<T> {
  readonly #it: AsyncIterator<T>;

  constructor(messages: AsyncIterable<T>) {
    this.#it = messages[Symbol.asyncIterator]();
  }

  async take(): Promise<T> {
    const result = await within(10_000, "the next message", this.#it.next());
    if (result.done === true) throw new Error("the call has ended");
    return result.value;
  }

  /** The messages up to the end, which must be next or come soon. */
  rest(): Promise<T[]> {
    return collect({ [Symbol.asyncIterator]: () => this.#it });
  }
}

/** Requests that a test sends when it wants to. */
export class Requests<T> extends BoundedQueue<T> {
  constructor(...first: T[]) {
    super(100_000);
    for (const request of first) void this.push(request);
  }

  /** The same, with nothing to come. */
  ended(): this {
    this.end();
    return this;
  }
}

export function requests<T>(...first: T[]): Requests<T> {
  return new Requests(...first);
}
