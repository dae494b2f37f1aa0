import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { onTestFinished } from "vitest";

/** How often a part is passed on, in milliseconds. */
const stepMs = 50;

/** A TCP proxy that carries `rate` bytes a second in one direction, of each connection, and all of the other one at once. */
export async function startThrottlingProxy(
  target: string,
  direction: "up" | "down",
  rate: number,
): Promise<{ readonly url: string }> {
  const { hostname, port, protocol } = new URL(target);
  const sockets = new Set<Socket>();
  const carry = (from: Socket, to: Socket, limited: boolean): void => {
    let waiting = Buffer.alloc(0);
    let ended = false;
    const step = (): void => {
      const part = waiting.subarray(0, Math.ceil((rate * stepMs) / 1000));
      waiting = waiting.subarray(part.byteLength);
      if (part.byteLength > 0) to.write(part);
      if (ended && waiting.byteLength === 0) to.end();
    };
    const timer = limited ? setInterval(step, stepMs) : undefined;
    from.on("data", (chunk: Buffer) => {
      if (limited) waiting = Buffer.concat([waiting, chunk]);
      else to.write(chunk);
    });
    from.on("end", () => {
      ended = true;
      if (!limited) to.end();
    });
    from.on("error", () => to.destroy());
    from.on("close", () => {
      if (!limited) to.destroy();
    });
    to.on("close", () => {
      clearInterval(timer);
      from.destroy();
    });
  };
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    for (const socket of [client, upstream]) sockets.add(socket);
    carry(client, upstream, direction === "up");
    carry(upstream, client, direction === "down");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { url: `${protocol}//127.0.0.1:${(server.address() as AddressInfo).port}` };
}
