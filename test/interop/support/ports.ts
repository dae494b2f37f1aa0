import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";

/**
 * A port of loopback that is free for TCP and UDP, for programs that cannot choose one by themselves and say which. Who
 * binds one of the same number in between makes them fail, which the kernel, handing out random ones, makes unlikely.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const tcp = createServer().listen(0, "127.0.0.1");
    await once(tcp, "listening");
    const { port } = tcp.address() as AddressInfo;
    const udp = createSocket("udp4").bind(port, "127.0.0.1");
    const free = await once(udp, "listening").then(
      () => true,
      () => false,
    );
    if (free) udp.close();
    tcp.close();
    await once(tcp, "close");
    if (free) return port;
  }
}
