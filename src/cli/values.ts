/** Reads the values of flags that only one command has. Options of client and server stand in config.ts. */
import { parseCheckpoint } from "../client/index.ts";
import { parseBytes, parseDuration } from "../config.ts";
import { CliError } from "./failure.ts";

type FlagValue = string | boolean | undefined;

/** A whole number; undefined if the flag is not given. */
export function parseCount(
  flag: string,
  value: FlagValue,
  { min = 0, max = Number.MAX_SAFE_INTEGER }: { min?: number; max?: number } = {},
): number | undefined {
  if (value === undefined) return undefined;
  const count = typeof value === "string" && /^\d{1,16}$/.test(value) ? Number(value) : NaN;
  if (count >= min && count <= max) return count;
  const range = max === Number.MAX_SAFE_INTEGER ? `, at least ${min}` : ` from ${min} to ${max}`;
  throw new CliError("usage", `${flag} must be a whole number${range}, not "${value}"`);
}

/** `10s` in milliseconds; undefined if the flag is not given. */
export function parseWait(flag: string, value: FlagValue): number | undefined {
  if (value === undefined) return undefined;
  const ms = typeof value === "string" ? parseDuration(value) : NaN;
  if (Number.isFinite(ms)) return ms;
  throw new CliError("usage", `${flag} must be a duration such as 250ms, 10s or 5m, not "${value}"`);
}

/** `64KiB` in bytes; undefined if the flag is not given. */
export function parseSize(
  flag: string,
  value: FlagValue,
  { min = 0, max = Number.MAX_SAFE_INTEGER }: { min?: number; max?: number } = {},
): number | undefined {
  if (value === undefined) return undefined;
  const size = typeof value === "string" ? parseBytes(value) : NaN;
  if (size >= min && size <= max) return size;
  throw new CliError("usage", `${flag} must be a size such as 65536, 64KiB or 4MiB, not "${value}"`);
}

/** For commander: collects the values of a flag that may be given again, a line each. */
export function oneEach(value: string, before?: string): string {
  return before === undefined ? value : `${before}\n${value}`;
}

/** The entries `key=value` of a flag that may be given again. */
export function parseEntries(flag: string, value: FlagValue): Readonly<Record<string, string>> {
  if (typeof value !== "string") return {};
  const entries = value.split("\n").map((entry) => {
    const [, key, text] = /^([^=]+)=(.*)$/.exec(entry) ?? [];
    if (key === undefined || text === undefined) {
      throw new CliError("usage", `${flag} must be key=value, such as content-type=image/png, not "${entry}"`);
    }
    return [key, text] as const;
  });
  return Object.fromEntries(entries);
}

/** A SHA-256 in hexadecimal digits. */
export function parseSha256(flag: string, value: FlagValue): Uint8Array | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "string" && /^[0-9a-f]{64}$/i.test(value)) return Buffer.from(value, "hex");
  throw new CliError("usage", `${flag} must be 64 hexadecimal digits, not "${value}"`);
}

/** Where to begin to read, as ReadOptions of the client take it. */
export type Position = "head" | "tail" | { seq: bigint; uid?: string } | { tailOffset: bigint } | { time: Date };

/** `head`, `tail`, `42`, `mJ0c_4fTqA1b:42` (a checkpoint), `-10`, `2026-01-31T12:00:00Z` or `15m` (ago). */
export function parsePosition(flag: string, value: string, now = Date.now()): Position {
  if (value === "head" || value === "tail") return value;
  if (/^\d{1,16}$/.test(value)) return { seq: BigInt(value) };
  if (/^-\d{1,16}$/.test(value)) return { tailOffset: BigInt(value.slice(1)) };
  // With a uid as servers make them, or none, as it is of older servers: 12:30 is neither.
  if (/^([\w-]{8,64})?:\d{1,16}$/.test(value)) return parseCheckpoint(value);
  const agoMs = parseDuration(value);
  if (Number.isFinite(agoMs)) return { time: new Date(now - agoMs) };
  const time = /^\d{4}-\d\d-\d\d/.test(value) ? new Date(value) : undefined;
  if (time !== undefined && !Number.isNaN(time.getTime())) return { time };
  throw new CliError(
    "usage",
    `${flag} must be head, tail, a seq such as 42, a checkpoint such as mJ0c_4fTqA1b:42, -N for the last N, a time such as 2026-01-31T12:00:00Z or 15m (ago), not "${value}"`,
  );
}
