import { Agent, request as httpRequest } from "node:http";
import type { IncomingMessage } from "node:http";
import { connect, constants } from "node:http2";
import type { ClientHttp2Session } from "node:http2";
import type { Readable, Writable } from "node:stream";
import { within } from "./deadline.ts";

/** A call below every RPC library: a POST whose body is sent in exactly these chunks. */
export interface RawCall {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** A number waits so many turns of the event loop. */
  readonly body: Iterable<Uint8Array | number>;
  readonly method?: string;
  /** Cuts the call once so many bytes of the answer have arrived. */
  readonly resetAfter?: number;
}

export interface RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly trailers: Readonly<Record<string, unknown>>;
  readonly body: Buffer;
  /** Whether the answer ended in order. */
  readonly complete: boolean;
}

/** A client on node:http or node:http2, with one connection (HTTP/2) or one for each call (HTTP/1.1). */
export interface RawClient {
  call(call: RawCall): Promise<RawAnswer>;
  close(): void;
}

const deadlineMs = 30_000;

export function createRawClient(url: string, httpVersion: "1.1" | "2"): RawClient {
  return httpVersion === "2" ? http2Client(url) : http1Client(url);
}

function http2Client(url: string): RawClient {
  let session: ClientHttp2Session | undefined;
  const open = (): ClientHttp2Session => {
    if (session === undefined || session.closed || session.destroyed) {
      // What was not sent of requests that were answered early goes on counting, and with 10 MB of it, unless told
      // otherwise, Node refuses every answer on the connection.
      session = connect(url, { maxSessionMemory: 1000 });
      session.on("error", () => undefined);
    }
    return session;
  };
  return {
    call(call) {
      const stream = open().request({
        ":method": call.method ?? "POST",
        ":path": call.path,
        ...call.headers,
      });
      let headers: Record<string, unknown> = {};
      let trailers: Record<string, unknown> = {};
      stream.on("response", (h) => (headers = h));
      stream.on("trailers", (t: Record<string, unknown>) => (trailers = t));
      const reset = (): void => {
        stream.close(constants.NGHTTP2_CANCEL);
      };
      return converse(call, stream, stream, reset, (body, complete) => {
        const { ":status": status, ...rest } = headers;
        return { status: Number(status), headers: rest, trailers, body, complete };
      });
    },
    close() {
      session?.destroy();
    },
  };
}

function http1Client(url: string): RawClient {
  const agents = new Set<Agent>();
  return {
    async call(call) {
      // A connection of its own, which the server may keep, but which is not used again: it may be closed just then.
      const agent = new Agent({ keepAlive: true });
      agents.add(agent);
      const request = httpRequest(new URL(call.path, url), {
        agent,
        method: call.method ?? "POST",
        headers: call.headers,
      });
      const response = new Promise<IncomingMessage>((resolve, reject) => {
        request.once("response", resolve);
        request.once("close", () => {
          reject(new Error("closed"));
        });
      });
      response.catch(() => undefined);
      try {
        return await converse(
          call,
          request,
          response,
          () => request.destroy(),
          (body, complete, from) => {
            const { statusCode = 0, headers = {}, trailers = {} } = (from ?? {}) as Partial<IncomingMessage>;
            return { status: statusCode, headers, trailers, body, complete };
          },
        );
      } finally {
        agent.destroy();
        agents.delete(agent);
      }
    },
    close() {
      for (const agent of agents) agent.destroy();
    },
  };
}

/** Sends the body and reads the answer at the same time. Both sides may break off. */
async function converse(
  call: RawCall,
  sink: Writable,
  source: Readable | Promise<Readable>,
  reset: () => void,
  answerOf: (body: Buffer, complete: boolean, source: Readable | undefined) => RawAnswer,
): Promise<RawAnswer> {
  sink.on("error", () => undefined);
  const chunks: Buffer[] = [];
  let received = 0;
  const state = { over: false };
  // Node ends the sink itself when the server stops the request. A write after that would be an error, which also
  // ends the reading of the answer.
  const unwanted = (): boolean => state.over || sink.destroyed || sink.writableEnded;
  const sending = (async () => {
    for (const part of call.body) {
      if (unwanted()) return;
      if (typeof part === "number") for (let i = 0; i < part; i++) await turn();
      else sink.write(part);
    }
    if (!unwanted()) sink.end();
  })();
  if (call.resetAfter === 0) {
    await sending;
    await turn();
    reset();
  }
  let from: Readable | undefined;
  const complete = await within(
    deadlineMs,
    `the end of ${call.path} ${JSON.stringify(call.headers)}`,
    (async () => {
      try {
        const stream = await source;
        from = stream;
        return await new Promise<boolean>((resolve) => {
          stream.on("error", () => undefined);
          stream.on("data", (chunk: Buffer) => {
            chunks.push(chunk);
            received += chunk.byteLength;
            if (call.resetAfter !== undefined && received >= call.resetAfter) reset();
          });
          stream.once("end", () => {
            resolve(true);
          });
          stream.once("close", () => {
            resolve(false);
          });
          // It may have been over before anybody listened.
          if (stream.destroyed) resolve(false);
        });
      } catch {
        return false;
      }
    })(),
  );
  state.over = true;
  await sending;
  return answerOf(Buffer.concat(chunks), complete, from);
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
