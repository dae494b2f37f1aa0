import { pino } from "pino";
import type { Logger } from "pino";
import { printable } from "../clip.ts";
import type { Config } from "../config.ts";
import { setOwn } from "../own-property.ts";
import { LineBuffer } from "./line-buffer.ts";

export type { Logger } from "pino";

/** Bytes of lines that wait while standard error takes none; later lines are dropped. */
const maxWaitingBytes = 1024 * 1024;

/**
 * Creates a logger that writes JSON lines to standard error. Warnings and errors
 * are written at once, with all lines before them; other lines at the end of the
 * turn of the event loop, or by `flush`. A log that cannot be written, for
 * instance to a full disk, does not stop the server: lines wait, up to 1 MiB,
 * until it can be.
 */
export function createLogger(level: Config["logLevel"]): Logger {
  const destination = pino.destination({ fd: 2, sync: true, maxLength: maxWaitingBytes });
  // There is nowhere else to report it; without a listener it ends the process.
  destination.on("error", () => undefined);
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, new LineBuffer(destination));
}

/**
 * Request headers whose values the log shows: those of the protocols, and what tells one client from another. Which
 * header holds a secret only its proxy or its application knows.
 */
const shownHeaders = new Set([
  "accept",
  "accept-encoding",
  "access-control-request-headers",
  "access-control-request-method",
  "connect-accept-encoding",
  "connect-content-encoding",
  "connect-protocol-version",
  "connect-timeout-ms",
  "connection",
  "content-encoding",
  "content-length",
  "content-type",
  "date",
  "expect",
  "grpc-accept-encoding",
  "grpc-encoding",
  "grpc-timeout",
  "host",
  "origin",
  "referer",
  "sec-fetch-dest",
  "sec-fetch-mode",
  "sec-fetch-site",
  "te",
  "transfer-encoding",
  "user-agent",
  "x-grpc-web",
  "x-user-agent",
]);

/** Request headers for the log: every one by its name, the listed ones with their value. */
export function redactHeaders(headers: Headers): Record<string, string> {
  const shown: Record<string, string> = {};
  for (const [name, value] of headers) {
    const text = shownHeaders.has(name) ? printable(name === "referer" ? withoutQuery(value) : value) : "[redacted]";
    setOwn(shown, name, text);
  }
  return shown;
}

/** A query and a fragment may be credentials, or a message. */
function withoutQuery(url: string): string {
  return url.replace(/[?#].*$/s, "");
}

/** Passes on what happens at most once a minute, with the number of times it has happened since without. */
export function noteAtIntervals(note: (what: string, others: number) => void): (what: string) => void {
  let next = 0;
  let others = 0;
  return (what) => {
    const now = performance.now();
    if (now < next) {
      others++;
      return;
    }
    note(what, others);
    next = now + 60_000;
    others = 0;
  };
}
