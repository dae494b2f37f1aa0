import { connect } from "node:http2";
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from "node:http2";
import { BenchService } from "../gen/bench/v1/bench_pb.ts";

/** Bytes, of a stream and of the connection. */
const window = 16 * 1024 * 1024;

export interface Connection {
  open(method: keyof typeof BenchService.method): ClientHttp2Stream;
}

export async function connectTo(target: string, token: string | undefined): Promise<Connection> {
  const session = await new Promise<ClientHttp2Session>((resolve, reject) => {
    const connecting = connect(`http://${target}`, { settings: { initialWindowSize: window, enablePush: false } });
    connecting.once("connect", () => {
      resolve(connecting);
    });
    connecting.once("error", reject);
  });
  session.on("error", () => undefined);
  session.setLocalWindowSize(window);
  return {
    open: (method) =>
      session.request({
        ":method": "POST",
        ":path": `/${BenchService.typeName}/${BenchService.method[method].name}`,
        "content-type": "application/grpc+proto",
        te: "trailers",
        ...(token === undefined ? {} : { "acme-token": token }),
      }),
  };
}

/** Resolves when the call has ended with status 0, and fails when it ends otherwise. */
export function ended(stream: ClientHttp2Stream): Promise<void> {
  return new Promise((resolve, reject) => {
    let status: unknown;
    // A response without a message has its trailers in its headers.
    stream.on("response", (headers) => (status ??= headers["grpc-status"]));
    stream.on("trailers", (trailers: IncomingHttpHeaders) => (status ??= trailers["grpc-status"]));
    stream.on("error", reject);
    stream.on("close", () => {
      if (status === "0") resolve();
      else reject(new Error(`the call ended with status ${String(status)}`));
    });
  });
}
