import { finish } from "./node-response.ts";
import type { NodeRequest, NodeResponse } from "./node-types.ts";

/** Says that there is no such method, in the terms of the protocol that asked. */
export function answerUnknownPath(req: NodeRequest, res: NodeResponse): void {
  const contentType = req.headers["content-type"] ?? "";
  const path = (req.url ?? "/").split("?", 1)[0] ?? "/";
  const message = `there is no method ${path}: see what there is with server reflection`;
  res.on("error", () => undefined);
  if (contentType.startsWith("application/grpc")) {
    // Trailers-Only (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
    res.statusCode = 200;
    res.setHeader("content-type", contentType);
    res.setHeader("grpc-status", "12");
    res.setHeader("grpc-message", encodeURIComponent(message));
    finish(req, res);
    return;
  }
  res.statusCode = 404;
  res.setHeader("content-type", "application/json");
  const body = JSON.stringify({ code: "unimplemented", message });
  res.setHeader("content-length", Buffer.byteLength(body));
  (res.write as (chunk: string) => boolean)(body);
  finish(req, res);
}
