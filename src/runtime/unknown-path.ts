import { clip } from "../clip.ts";
import { Code, ConnectError } from "@connectrpc/connect";
import type { HttpExchange } from "./exchange.ts";
import { refuse } from "./refuse.ts";

/** Says that there is no such method, in the terms of the protocol that asked. */
export function answerUnknownPath(exchange: HttpExchange): void {
  const message = `there is no method ${clip(exchange.path)}: see what there is with server reflection`;
  refuse(exchange, 404, new ConnectError(message, Code.Unimplemented));
}
