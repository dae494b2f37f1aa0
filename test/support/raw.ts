import { once } from "node:events";
import { connect } from "node:http2";
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from "node:http2";
import { onTestFinished } from "vitest";
import { deferred, within } from "./deadline.ts";

/** One HTTP/2 request, by hand. */
export interface RawCall {
  readonly stream: ClientHttp2Stream;
  /** Resolves when the response's headers have arrived. */
  readonly head: Promise<IncomingHttpHeaders>;
  /** Resolves when the response has ended. */
  readonly end: Promise<{
    readonly head: IncomingHttpHeaders;
    readonly trailers: IncomingHttpHeaders;
    readonly body: Buffer;
  }>;
  /** Bytes of the body that have arrived. */
  readonly received: number;
}

/** A connection that is closed at the end of the test. */
export function useSession(url: string): ClientHttp2Session {
  const session = connect(url);
  session.on("error", () => undefined);
  onTestFinished(() => {
    session.destroy();
  });
  return session;
}

/** Sends the headers of a POST with the sample token; the body is the caller's to write and to end. */
export function post(session: ClientHttp2Session, path: string, headers: Record<string, string>): RawCall {
  const stream = session.request({ ":method": "POST", ":path": path, authorization: "Bearer sample", ...headers });
  stream.on("error", () => undefined);
  const head = deferred<IncomingHttpHeaders>();
  let trailers: IncomingHttpHeaders = {};
  const chunks: Buffer[] = [];
  stream.on("response", head.resolve);
  stream.on("trailers", (received: IncomingHttpHeaders) => (trailers = received));
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  // Sends the headers, though there is no body yet.
  stream.write(Buffer.alloc(0));
  const end = once(stream, "close").then(async () => {
    head.reject(new Error("the stream ended without a response"));
    return { head: await head.promise, trailers, body: Buffer.concat(chunks) };
  });
  // Who waits for neither leaves them to the end of the connection.
  head.promise.catch(() => undefined);
  end.catch(() => undefined);
  return {
    stream,
    head: within(10_000, "the response's headers", head.promise),
    end: within(10_000, "the response's end", end),
    get received() {
      return chunks.reduce((sum, { byteLength }) => sum + byteLength, 0);
    },
  };
}

/** A message as streams carry it: flags, length, data (the same in all three protocols). */
export function envelope(data: Uint8Array, flags = 0): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(flags);
  head.writeUInt32BE(data.byteLength, 1);
  return Buffer.concat([head, data]);
}

/** The messages of a body. */
export function envelopesOf(body: Buffer): { flags: number; data: Buffer }[] {
  const found: { flags: number; data: Buffer }[] = [];
  for (let at = 0; at < body.byteLength;) {
    const end = at + 5 + body.readUInt32BE(at + 1);
    if (end > body.byteLength) throw new Error("the last message is cut off");
    found.push({ flags: body.readUInt8(at), data: body.subarray(at + 5, end) });
    at = end;
  }
  return found;
}
