/** connect-node as shipped. */
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { announce } from "./announce.ts";
import { routes } from "./service.ts";

const server = createServer(connectNodeAdapter({ routes }));
server.listen(0, "127.0.0.1", () => {
  announce((server.address() as AddressInfo).port);
});
