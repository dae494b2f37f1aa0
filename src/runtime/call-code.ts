import { Code } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { codeOfStatus } from "../wire/status-code.ts";
import type { ActiveCall } from "./active-call.ts";

const codeNames = new Map(
  Object.values(Code)
    .filter((code) => typeof code === "number")
    .map((code) => [String(code), codeToString(code)]),
);

/**
 * The outcome of a call by name: from what it failed with, else from what was
 * answered. An answer of HTTP's alone, such as 415, counts as the code that our
 * client makes of it.
 */
export function codeOf(call: ActiveCall, response: UniversalServerResponse | undefined): string {
  if (call.error !== undefined) return codeToString(call.error.code);
  const grpcStatus = response?.trailer?.get("grpc-status") ?? response?.header?.get("grpc-status");

  // Anything else that a handler has put there is a code that no client knows.
  if (grpcStatus != null && grpcStatus !== "0") return codeNames.get(grpcStatus) ?? "unknown";
  if (response !== undefined && response.status >= 300) return codeToString(codeOfStatus(response.status));
  return "ok";
}
