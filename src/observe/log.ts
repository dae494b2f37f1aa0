import { pino } from "pino";
import type { Logger } from "pino";
import type { Config } from "../config.ts";

export type { Logger } from "pino";

/** Bytes of lines that wait while standard error takes none; later lines are dropped. */
const maxWaitingBytes = 1024 * 1024;

/**
 * A logger that writes JSON lines to standard error, at once, so that a crash
 * loses none. A log that cannot be written, for instance to a full disk, does
 * not stop the server: lines wait, up to 1 MiB, until it can be.
 */
export function createLogger(level: Config["logLevel"]): Logger {
  const destination = pino.destination({ fd: 2, sync: true, maxLength: maxWaitingBytes });
  // There is nowhere else to report it; without a listener it ends the process.
  destination.on("error", () => undefined);
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, destination);
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
