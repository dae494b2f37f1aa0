import { createSluiceClient } from "../../src/client/index.ts";
import type { SluiceClient, SluiceClientOptions } from "../../src/client/index.ts";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, beforeAll, onTestFinished } from "vitest";
import type { Server } from "../../src/compose.ts";
import type { Config } from "../../src/config.ts";
import type { BidirectionalStream, StreamHandler, StreamOptions, StreamRequest } from "../../src/index.ts";
import { deferred, within } from "./deadline.ts";
import { tlsFiles } from "./http3.ts";
import { startServer } from "./server.ts";

/** What a stream can be taken over on. */
export interface StreamLane {
  readonly name: string;
  readonly httpVersion: "2" | "3";
  readonly tls: boolean;
}

export const streamLanes: readonly StreamLane[] = [
  { name: "h2c", httpVersion: "2", tls: false },
  { name: "TLS, HTTP/2", httpVersion: "2", tls: true },
  { name: "HTTP/3", httpVersion: "3", tls: true },
];

let dir: string;

/** Puts the certificate where servers read it, for the tests of a file. */
export function useTlsFiles(): void {
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "sluice-streams-"));
    await Promise.all([writeFile(join(dir, "cert.pem"), tlsFiles.cert), writeFile(join(dir, "key.pem"), tlsFiles.key)]);
  });
  afterAll(() => rm(dir, { recursive: true }));
}

export function tlsConfig(): Partial<Config> {
  return { tlsCert: join(dir, "cert.pem"), tlsKey: join(dir, "key.pem") };
}

/** A line of the access log. */
export type LogLine = Record<string, unknown>;

export interface StreamServer {
  readonly server: Server;
  readonly client: SluiceClient;
  /** The access log's lines, and what else has been logged. */
  readonly calls: LogLine[];
  readonly errors: LogLine[];
  readonly connect: (options?: Partial<SluiceClientOptions>) => SluiceClient;
}

export type Handlers = Readonly<Record<string, StreamHandler | readonly [StreamHandler, StreamOptions]>>;

/** A server with these streams, and a client of it; both end with the test. */
export async function useStreams(
  lane: StreamLane,
  handlers: Handlers,
  config: Partial<Config> = {},
): Promise<StreamServer> {
  const calls: LogLine[] = [];
  const errors: LogLine[] = [];
  const write = (text: string): void => {
    const line = JSON.parse(text) as LogLine;
    if (line["msg"] === "call") calls.push(line);
    if (line["level"] === 50) errors.push(line);
  };
  const server = await startServer(
    { ...(lane.tls ? tlsConfig() : {}), http3: lane.httpVersion === "3", ...config },
    {
      log: pino({ level: "info" }, { write }),
      streams({ onStream }) {
        for (const [path, entry] of Object.entries(handlers)) {
          if (typeof entry === "function") onStream(path, entry);
          else onStream(path, ...entry);
        }
      },
    },
  );
  onTestFinished(() => server.close());
  const url = server.url.replace(/:\d+$/, `:${server.http3Port ?? new URL(server.url).port}`);
  const connect = (options: Partial<SluiceClientOptions> = {}): SluiceClient => {
    const client = createSluiceClient({
      url,
      token: "sample",
      httpVersion: lane.httpVersion,
      ...(lane.tls ? { ca: tlsFiles.ca } : {}),
      ...options,
    });
    onTestFinished(() => client.close());
    return client;
  };
  return { server, client: connect(), calls, errors, connect };
}

/** Both ends of one stream, in the test's hands. */
export interface Ends {
  readonly client: End;
  readonly server: End & { readonly request: StreamRequest };
  /** The handler returns when it is resolved. */
  readonly handled: PromiseWithResolvers<void>;
}

/** One end, with a reader and a writer at work. */
export class End {
  readonly reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly writer: WritableStreamDefaultWriter<Uint8Array>;

  constructor({ readable, writable }: BidirectionalStream) {
    this.reader = readable.getReader();
    this.writer = writable.getWriter();
    // Tests look at reads and writes.
    this.reader.closed.catch(() => undefined);
    this.writer.closed.catch(() => undefined);
  }

  write(text: string): Promise<void> {
    return this.writer.write(new TextEncoder().encode(text));
  }

  /** The next chunk as text; undefined at the end. */
  async read(): Promise<string | undefined> {
    const { value } = await within(10_000, "a chunk", this.reader.read());
    return value === undefined ? undefined : new TextDecoder().decode(value);
  }

  /** Everything up to the end. */
  async readAll(): Promise<string> {
    let all = "";
    for (let text = await this.read(); text !== undefined; text = await this.read()) all += text;
    return all;
  }
}

/** Opens a stream, and gives both its ends. */
export async function useEnds(
  lane: StreamLane,
  config: Partial<Config> = {},
  signal?: AbortSignal,
): Promise<
  Ends & Omit<StreamServer, "client" | "server"> & { readonly sluice: SluiceClient; readonly running: Server }
> {
  const accepted = deferred<Ends["server"]>();
  const handled = deferred();
  const {
    client: sluice,
    server: running,
    ...served
  } = await useStreams(
    lane,
    {
      "/ends": (request) => {
        accepted.resolve(Object.assign(new End(request.accept()), { request }));
        return handled.promise;
      },
    },
    config,
  );
  // A call is not over before its handler is.
  onTestFinished(() => {
    handled.resolve();
  });
  const client = new End(
    await within(10_000, "the stream", sluice.openStream("/ends", signal === undefined ? {} : { signal })),
  );
  return { ...served, sluice, running, client, server: await accepted.promise, handled };
}

/** What a wait failed with. */
export async function failureOf(what: string, work: Promise<unknown>): Promise<unknown> {
  const failure = await within(
    10_000,
    what,
    work.then(
      () => undefined,
      (reason: unknown) => reason,
    ),
  );
  if (failure === undefined) throw new Error(`${what} has not failed`);
  return failure;
}
