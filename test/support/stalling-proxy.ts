import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { onTestFinished } from "vitest";
import { until } from "./deadline.ts";

export interface StallingProxy {
  readonly url: string;
  /** Resolves once the limit has been reached. */
  stalled(): Promise<void>;
}

/**
 * A TCP proxy that carries `bytes` in one direction and then, with every
 * connection still open, nothing more: what is interrupted then is interrupted
 * in the middle, however fast the machine is.
 */
export async function startStallingProxy(
  target: string,
  direction: "up" | "down",
  bytes: number,
): Promise<StallingProxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  let left = bytes;
  const carry = (from: Socket, to: Socket, limited: boolean): void => {
    from.on("data", (chunk: Buffer) => {
      const part = limited ? chunk.subarray(0, left) : chunk;
      if (limited) left -= part.byteLength;
      if (part.byteLength > 0 && !to.write(part)) {
        from.pause();
        to.once("drain", () => from.resume());
      }
      if (limited && left === 0) from.pause().removeAllListeners("data");
    });
    from.on("error", () => to.destroy());
    from.on("close", () => to.destroy());
  };
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    for (const socket of [client, upstream]) sockets.add(socket);
    carry(client, upstream, direction === "up");
    carry(upstream, client, direction === "down");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, "close");
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stalled: () => until(30_000, `${bytes} bytes through the proxy`, () => left === 0),
  };
}
