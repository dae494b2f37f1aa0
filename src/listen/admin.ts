import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { DomainError } from "../errors.ts";

export interface AdminOptions {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** The metrics in the text format of Prometheus, with their content type. */
  /** Whether a request with this `Host` is answered. Default: each one is. */
  readonly allowsHost?: ((authority: string | undefined) => boolean) | undefined;
  readonly metrics: () => Promise<{ contentType: string; text: string }>;
}

/** Serves /metrics over plain HTTP on a port of its own, so that it can be kept inside. */
export async function listenAdmin(options: AdminOptions): Promise<{ url: string; close: () => Promise<void> }> {
  const server = createServer((req, res) => {
    if (options.allowsHost?.(req.headers.host) === false) {
      const advice = "call it as localhost or 127.0.0.1, or add the host to --allowed-hosts of the server";
      res.writeHead(421, { "content-type": "text/plain" }).end(`this host is not served: ${advice}\n`);
      return;
    }
    if (req.url?.split("?", 1)[0] !== "/metrics") {
      res.writeHead(404, { "content-type": "text/plain" }).end("only /metrics is here\n");
      return;
    }
    if (req.method !== "GET" && req.method !== "HEAD") {
      res.writeHead(405, { allow: "GET, HEAD" }).end();
      return;
    }
    options.metrics().then(
      ({ contentType, text }) => {
        res.writeHead(200, { "content-type": contentType }).end(text);
      },
      () => {
        res.writeHead(500).end();
      },
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => {
      const detail = `cannot listen on --admin-host ${options.host}, --admin-port ${options.port}: ${cause.message}`;
      reject(new DomainError({ kind: "config", detail }, { cause }));
    });
    server.listen(options.port, options.host, resolve);
  });
  const { address, port, family } = server.address() as AddressInfo;
  return {
    url: `http://${family === "IPv6" ? `[${address}]` : address}:${port}/metrics`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeAllConnections();
      }),
  };
}
