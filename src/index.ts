/**
 * Sluice as a library: start a server in your own process, and add your own
 * services to it. The client is in `sluice/client`, its browser-safe part in
 * `sluice/web`.
 */
export { start } from "./compose.ts";
export type { Server, StartOptions } from "./compose.ts";
export { parseServerConfig, resolveConfig } from "./config.ts";
export type { Config } from "./config.ts";
export { DomainError, isDomainError } from "./errors.ts";
export type { Problem, ProblemKind } from "./errors.ts";
export type { WebTransportSession } from "./http3/webtransport-session.ts";
export { createLogger } from "./observe/log.ts";
export type { Logger } from "./observe/log.ts";
export { callKey } from "./runtime/call.ts";
export type { Call } from "./runtime/call.ts";
export type { StreamHandler, StreamOptions, StreamRequest, StreamRouter } from "./runtime/stream-routes.ts";
export type { BidirectionalStream } from "./wire/duplex-stream.ts";
export type { RpcOptions, ServiceOptions, ServiceRouter } from "./auth/call-scopes.ts";
export { principalKey } from "./auth/principal.ts";
export type { Principal } from "./auth/principal.ts";
