import { clip } from "../clip.ts";
import type { HttpExchange } from "./exchange.ts";

/** Says that there is no such method, in the terms of the protocol that asked. */
export function answerUnknownPath(exchange: HttpExchange): void {
  const contentType = exchange.header.get("content-type") ?? "";
  const message = `there is no method ${clip(exchange.path)}: see what there is with server reflection`;
  if (contentType.startsWith("application/grpc")) {
    // Trailers-Only (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
    const header = {
      "content-type": contentType,
      "grpc-status": "12",
      "grpc-message": encodeURIComponent(message.toWellFormed()),
    };
    exchange.sendHead(200, new Headers(header));
    exchange.end();
    return;
  }
  const body = new TextEncoder().encode(JSON.stringify({ code: "unimplemented", message }));
  const header = { "content-type": "application/json", "content-length": String(body.byteLength) };
  exchange.sendHead(404, new Headers(header));
  exchange.write([body]);
  exchange.end();
}
