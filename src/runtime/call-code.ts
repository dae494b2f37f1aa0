import { Code } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import type { ActiveCall } from "./active-call.ts";

const codeNames = new Map(
  Object.values(Code)
    .filter((code) => typeof code === "number")
    .map((code) => [String(code), codeToString(code)]),
);

/** The outcome of a call by name: from what it failed with, else from what was answered. */
export function codeOf(call: ActiveCall, response: UniversalServerResponse | undefined): string {
  if (call.error !== undefined) return codeToString(call.error.code);
  const grpcStatus = response?.trailer?.get("grpc-status") ?? response?.header?.get("grpc-status");

  if (grpcStatus != null && grpcStatus !== "0") {
    return codeNames.get(grpcStatus) ?? `code_${grpcStatus}`;
  }
  if (response !== undefined && response.status !== 200) return `http_${response.status}`;
  return "ok";
}
