import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import type { ConnectRouter, HandlerContext, Code } from "@connectrpc/connect";
import fc from "fast-check";
import { gzipSync } from "node:zlib";
import { GreetAllRequestSchema, GreetRequestSchema, GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { callKey } from "../../src/runtime/call.ts";
import { cut, envelopeOf } from "../support/envelopes.ts";
import type { RawCall } from "../support/raw-call.ts";

/** One way to speak to a server. */
export interface Manner {
  readonly shape: "client" | "server" | "bidi";
  readonly protocol: "connect" | "grpc" | "grpc-web";
  readonly json: boolean;
  readonly gzip: boolean;
}

/** What the handler does next. */
export type Step =
  | { readonly do: "read" | "read all" | "hang" }
  | { readonly do: "send"; readonly size: number }
  | { readonly do: "wait"; readonly turns: number }
  | { readonly do: "set trailer"; readonly name: string; readonly value: string }
  | { readonly do: "fail"; readonly with: Failure };

export type Failure =
  | { readonly kind: "error" }
  | ({ readonly kind: "connect"; readonly code: Code; readonly message: string; readonly detail: boolean } & {
      readonly metadata: readonly (readonly [string, string])[];
    });

/** What is wrong with the request. */
type Fault =
  | { readonly kind: "none" }
  | { readonly kind: "ends early"; readonly by: number }
  | { readonly kind: "garbage" | "not compressed"; readonly at: number }
  | { readonly kind: "unknown encoding" | "bad timeout" | "too large" };

export interface Script {
  readonly requests: readonly number[];
  readonly fault: Fault;
  /** Lengths of chunks, and turns of the event loop between them. */
  readonly chunks: readonly number[];
  readonly pauses: readonly number[];
  readonly headers: readonly (readonly [string, string])[];
  /** Set after a wait, by a handler that holds the headers back until then. */
  readonly lateHeaders: readonly (readonly [string, string])[];
  readonly steps: readonly Step[];
}

/** What the handler saw. */
export interface Seen {
  readonly names: string[];
  error?: string | undefined;
}

/** More than any message of a script that is not meant to be too large. */
export const maxMessageBytes = 1024 * 1024;

const size = fc.oneof(
  { weight: 3, arbitrary: fc.nat(30) },
  { weight: 2, arbitrary: fc.nat(3000) },
  { weight: 1, arbitrary: fc.nat(250_000) },
);
const binary = fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes).toString("base64"));
// Printable ASCII without blanks at its ends, which HTTP does not keep.
const ascii = fc.string({ unit: "grapheme-ascii", maxLength: 30 }).map((text) => `v${text}v`);
const pair = fc.oneof(
  fc.tuple(fc.constantFrom("x-a", "x-b", "greet-version"), ascii),
  fc.tuple(fc.constantFrom("x-a-bin", "x-b-bin"), binary),
);
const pairs = fc.array(pair, { maxLength: 4 });

const failure: fc.Arbitrary<Failure> = fc.oneof(
  { weight: 1, arbitrary: fc.constant({ kind: "error" as const }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("connect" as const),
      code: fc.integer({ min: 1, max: 16 }),
      message: fc.oneof(ascii, fc.string({ unit: "grapheme", maxLength: 20 }), fc.constant("")),
      detail: fc.boolean(),
      metadata: pairs,
    }),
  },
);

const fault: fc.Arbitrary<Fault> = fc.oneof(
  { weight: 6, arbitrary: fc.constant({ kind: "none" as const }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("ends early" as const), by: fc.integer({ min: 1, max: 60 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom("garbage" as const, "not compressed" as const),
      at: fc.nat(4),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constantFrom("unknown encoding" as const, "bad timeout" as const, "too large" as const),
    }),
  },
);

const wait = fc.record({ do: fc.constant("wait" as const), turns: fc.nat(4) });
const setTrailer = pair.map(([name, value]) => ({ do: "set trailer" as const, name, value }));
const send = size.map((n) => ({ do: "send" as const, size: n }));
const read = fc.constantFrom({ do: "read" as const }, { do: "read all" as const });

function stepsOf(shape: Manner["shape"]): fc.Arbitrary<Step[]> {
  const step: fc.Arbitrary<Step> = {
    client: fc.oneof(read, wait, setTrailer),
    server: fc.oneof({ weight: 3, arbitrary: send }, wait, setTrailer),
    bidi: fc.oneof({ weight: 3, arbitrary: send }, { weight: 3, arbitrary: read }, wait, setTrailer),
  }[shape];
  const end: fc.Arbitrary<Step[]> = fc.oneof(
    { weight: 2, arbitrary: fc.constant<Step[]>([]) },
    { weight: 2, arbitrary: failure.map((f): Step[] => [{ do: "fail", with: f }]) },
  );
  return fc.oneof(
    { weight: 12, arbitrary: fc.tuple(fc.array(step, { maxLength: 10 }), end).map(([a, b]) => [...a, ...b]) },
    { weight: 1, arbitrary: fc.constant<Step[]>([{ do: "hang" }]) },
  );
}

export function scriptOf(shape: Manner["shape"]): fc.Arbitrary<Script> {
  return anyScriptOf(shape).map((script) => {
    if (refusedAtOnce(script)) return { ...script, headers: [], lateHeaders: [], steps: [{ do: "read" }] };
    // How far the handler gets until the deadline is a matter of speed: it has nothing to show for it.
    if (hangs(script)) return { ...script, headers: [], lateHeaders: [] };
    return script;
  });
}

/**
 * Whether the headers say that the request cannot be understood. Connect raises that in the handler's first read,
 * after all that the handler has done before; the runtime does not call the handler.
 */
export function refusedAtOnce({ fault: { kind } }: Script): boolean {
  return kind === "unknown encoding" || kind === "bad timeout";
}

/** Whether the handler waits for the deadline. */
export function hangs({ steps }: Script): boolean {
  return steps.some((step) => step.do === "hang");
}

function anyScriptOf(shape: Manner["shape"]): fc.Arbitrary<Script> {
  return fc.record({
    requests:
      shape === "server"
        ? fc.oneof({ weight: 8, arbitrary: fc.tuple(size) }, { weight: 1, arbitrary: fc.constantFrom([], [1, 2]) })
        : fc.array(size, { maxLength: 8 }),
    fault,
    chunks: fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 100, max: 60_000 })), {
      minLength: 1,
      maxLength: 6,
    }),
    pauses: fc.array(fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(3) }), {
      minLength: 1,
      maxLength: 5,
    }),
    headers: pairs,
    lateHeaders: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: pairs }),
    steps: stepsOf(shape),
  });
}

/** The text of a message: of this many characters, some of them of more than one byte. */
export function textOf(length: number): string {
  return length % 3 === 0 ? "aé€".repeat(length).slice(0, length) : "x".repeat(length);
}

const paths = { client: "GreetAll", server: "GreetRepeatedly", bidi: "GreetEach" } as const;

const contentTypes = {
  connect: "application/connect+",
  grpc: "application/grpc+",
  "grpc-web": "application/grpc-web+",
};

/** The request that the script asks for. `id` tells the handler which script to follow. */
export function rawCallOf({ shape, protocol, json, gzip }: Manner, script: Script, id: string): RawCall {
  const prefix = protocol === "connect" ? "connect-content" : "grpc";
  const accept = protocol === "connect" ? "connect-accept-encoding" : "grpc-accept-encoding";
  const headers: Record<string, string> = {
    "content-type": contentTypes[protocol] + (json ? "json" : "proto"),
    "x-script": id,
    ...(gzip ? { [`${prefix}-encoding`]: "gzip", [accept]: "gzip" } : {}),
    ...(protocol === "grpc" ? { te: "trailers" } : {}),
  };
  const timeout = protocol === "connect" ? "connect-timeout-ms" : "grpc-timeout";
  if (hangs(script)) headers[timeout] = protocol === "connect" ? "100" : "100m";
  const { fault: wrong } = script;
  if (wrong.kind === "unknown encoding") headers[`${prefix}-encoding`] = "rot13";
  if (wrong.kind === "bad timeout") headers[timeout] = "soon";
  const envelopes = script.requests.map((n, i) => {
    // Every request message of the service has the name as its first field.
    const message = create(GreetAllRequestSchema, { name: textOf(n) });
    const plain = json
      ? Buffer.from(toJsonString(GreetAllRequestSchema, message))
      : toBinary(GreetAllRequestSchema, message);
    const here = "at" in wrong && wrong.at % script.requests.length === i ? wrong.kind : undefined;
    if (here === "garbage") return envelopeOf(Buffer.from([0x0a, 0xff, 0xff]), 0);
    if (wrong.kind === "too large" && i === 0) return envelopeOf(plain, 0, maxMessageBytes + 1 + n);
    if (here === "not compressed") return envelopeOf(Buffer.from("not gzip at all"), 1);
    return gzip && n % 2 === 0 ? envelopeOf(gzipSync(plain), 1) : envelopeOf(plain);
  });
  const whole = Buffer.concat(envelopes);
  const body =
    wrong.kind === "ends early"
      ? whole.subarray(0, whole.byteLength - Math.min(wrong.by, Math.max(0, (envelopes.at(-1)?.byteLength ?? 6) - 6)))
      : whole;
  const parts: (Uint8Array | number)[] = [];
  let i = 0;
  // Many thousands of tiny chunks would take their time and show nothing more.
  const least = body.byteLength / 300;
  for (const chunk of cut(
    body,
    script.chunks.map((length) => Math.max(length, Math.ceil(least))),
  )) {
    parts.push(chunk, script.pauses[i++ % script.pauses.length] ?? 0);
  }
  return { path: `/${GreetService.typeName}/${paths[shape]}`, headers, body: parts };
}

function errorOf(what: Failure): Error {
  if (what.kind === "error") return new Error("a bug");
  const { code, message, detail, metadata } = what;
  const error = new ConnectError(
    message,
    code,
    undefined,
    detail ? [{ desc: GreetRequestSchema, value: { name: "detail é" } }] : undefined,
  );
  for (const [name, value] of metadata) error.metadata.append(name, value);
  return error;
}

/** Follows the script of each call. */
export class Scripts {
  readonly #byId = new Map<string, { script: Script; seen: Seen }>();
  #next = 0;
  /** Handlers that have not let go. */
  running = 0;

  add(script: Script): { id: string; seen: Seen } {
    const id = String(this.#next++);
    const seen: Seen = { names: [] };
    this.#byId.set(id, { script, seen });
    return { id, seen };
  }

  readonly routes = (router: ConnectRouter): void => {
    const run = (input: AsyncIterable<{ name: string }> | undefined, context: HandlerContext): AsyncGenerator<string> =>
      this.#run(input, context);
    router.service(GreetService, {
      async greetAll(requests, context) {
        let count = 0;
        for await (const _ of run(requests, context)) count++;
        return { greeting: `${count} ${textOf(5000)}` };
      },
      async *greetRepeatedly({ name }, context) {
        const given = (async function* () {
          yield { name };
        })();
        for await (const greeting of run(given, context)) yield { greeting };
      },
      async *greetEach(requests, context) {
        for await (const greeting of run(requests, context)) yield { greeting };
      },
    });
  };

  async *#run(input: AsyncIterable<{ name: string }> | undefined, context: HandlerContext): AsyncGenerator<string> {
    const entry = this.#byId.get(context.requestHeader.get("x-script") ?? "");
    if (entry === undefined) throw new Error("no such script");
    const { script, seen } = entry;
    this.running++;
    try {
      for (const [name, value] of script.headers) context.responseHeader.append(name, value);
      if (script.lateHeaders.length > 0) {
        context.values.get(callKey)?.holdHeaders();
        await new Promise((resolve) => setTimeout(resolve, 2));
        for (const [name, value] of script.lateHeaders) context.responseHeader.append(name, value);
      }
      const it = input?.[Symbol.asyncIterator]();
      const read = async (): Promise<boolean> => {
        const next = await it?.next();
        if (next === undefined || next.done === true) return false;
        seen.names.push(next.value.name);
        return true;
      };
      for (const step of script.steps) {
        switch (step.do) {
          case "read":
            await read();
            break;
          case "read all":
            while (await read());
            break;
          case "send":
            yield textOf(step.size);
            break;
          case "wait":
            for (let i = 0; i < step.turns; i++) await new Promise((resolve) => setImmediate(resolve));
            break;
          case "set trailer":
            context.responseTrailer.append(step.name, step.value);
            break;
          case "hang":
            await new Promise((_, reject) => {
              const { signal } = context;
              const abort = (): void => {
                reject(signal.reason as Error);
              };
              if (signal.aborted) abort();
              else signal.addEventListener("abort", abort, { once: true });
            });
            break;
          case "fail":
            throw errorOf(step.with);
        }
      }
    } catch (error) {
      seen.error = ConnectError.from(error).message;
      throw error;
    } finally {
      this.running--;
    }
  }
}
