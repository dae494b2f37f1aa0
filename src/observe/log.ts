import { pino } from "pino";
import type { Logger } from "pino";
import type { Config } from "../config.ts";

export type { Logger } from "pino";

/** A logger that writes JSON lines to standard error, at once, so that a crash loses none. */
export function createLogger(level: Config["logLevel"]): Logger {
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ fd: 2, sync: true }));
}

const secretHeaders = new Set([
  "acme-token",
  "authorization",
  "cookie",
  "proxy-authorization",
  "set-cookie",
  "x-api-key",
]);
const looksSecret = /token|secret|password|credential|session/;

/** Request headers for the log: the values of credentials are replaced. */
export function redactHeaders(headers: Headers): Record<string, string> {
  const shown: Record<string, string> = {};
  for (const [name, value] of headers) {
    shown[name] = secretHeaders.has(name) || looksSecret.test(name) ? "[redacted]" : value;
  }
  return shown;
}
