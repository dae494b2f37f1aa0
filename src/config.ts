/**
 * Every option, default and limit of Sluice, once. Flags win over environment
 * variables, and those over defaults. The command line builds its flags, and
 * README its table, from `serverOptions`.
 */
import { DomainError } from "./errors.ts";
import { listedHost } from "./hosts.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

type Kind =
  | { readonly kind: "string" }
  | { readonly kind: "list" }
  | { readonly kind: "boolean" }
  | { readonly kind: "enum"; readonly values: readonly string[] }
  /** A whole number. */
  | { readonly kind: "count"; readonly min: number; readonly max: number }
  /** A whole number of bytes; `4MiB`, `64KiB` and `1GiB` are understood. */
  | { readonly kind: "bytes"; readonly min: number; readonly max: number }
  /** Milliseconds inside; written `250ms`, `10s`, `5m`, `1h`, `7d`. */
  | { readonly kind: "duration"; readonly min: number; readonly max: number };

/** One option: how it is written, its default, and what follows from it. */
export interface OptionSpec<T> {
  readonly flag: string;
  readonly env: string;
  readonly type: Kind;
  readonly default: T;
  /** What it does, with its unit and its consequence, as README and --help say it. */
  readonly help: string;
}

function string<T extends string | undefined>(flag: string, byDefault: T, help: string): OptionSpec<string | T> {
  return { flag, env: envName(flag), type: { kind: "string" }, default: byDefault, help };
}
function list(flag: string, byDefault: readonly string[], help: string): OptionSpec<readonly string[]> {
  return { flag, env: envName(flag), type: { kind: "list" }, default: byDefault, help };
}
function boolean(flag: string, byDefault: boolean, help: string): OptionSpec<boolean> {
  return { flag, env: envName(flag), type: { kind: "boolean" }, default: byDefault, help };
}
function oneOf<const V extends string>(
  flag: string,
  values: readonly V[],
  byDefault: NoInfer<V>,
  help: string,
): OptionSpec<V> {
  return { flag, env: envName(flag), type: { kind: "enum", values }, default: byDefault, help };
}
function count<T extends number | undefined>(
  flag: string,
  byDefault: T,
  [min, max]: readonly [number, number],
  help: string,
): OptionSpec<number | T> {
  return { flag, env: envName(flag), type: { kind: "count", min, max }, default: byDefault, help };
}
function bytes<T extends number | undefined>(
  flag: string,
  byDefault: T,
  [min, max]: readonly [number, number],
  help: string,
): OptionSpec<number | T> {
  return { flag, env: envName(flag), type: { kind: "bytes", min, max }, default: byDefault, help };
}
function duration(
  flag: string,
  byDefault: number,
  [min, max]: readonly [number, number],
  help: string,
): OptionSpec<number> {
  return { flag, env: envName(flag), type: { kind: "duration", min, max }, default: byDefault, help };
}
function envName(flag: string): string {
  return `SLUICE_${flag.toUpperCase().replaceAll("-", "_")}`;
}

/** The options of `sluice serve`, in the order of --help. */
export const serverOptions = {
  host: string("host", "127.0.0.1", "Address to listen on. Beyond loopback, a tokens file or a JWKS is required."),
  port: count("port", 8080, [0, 65535], "Port to listen on; 0 takes a free one."),
  tlsCert: string(
    "tls-cert",
    undefined,
    "PEM file with the certificate chain. With it the port speaks TLS only. Read again on SIGHUP; a wrong one changes nothing.",
  ),
  tlsKey: string("tls-key", undefined, "PEM file with the private key of --tls-cert. Read again together with it."),
  tlsClientCa: string(
    "tls-client-ca",
    undefined,
    "PEM file with CAs. With it a client must present a certificate that one of them has signed, besides its token. Read again together with --tls-cert.",
  ),
  http3: boolean(
    "http3",
    false,
    "Serve HTTP/3 too, with the certificate of --tls-cert, and advertise it by Alt-Svc. Experimental: see docs/http3.md.",
  ),
  http3Port: count(
    "http3-port",
    undefined,
    [0, 65535],
    "UDP port for HTTP/3; 0 takes a free one. Unset: the same number as --port.",
  ),
  webtransportPath: string(
    "webtransport-path",
    "/webtransport",
    "Where pages open sessions of WebTransport when --http3 is on; `none` for none. Experimental: see docs/http3.md.",
  ),

  store: oneOf("store", ["lmdb", "memory"], "lmdb", "Where streams are kept; memory ends with the process."),
  dataDir: string("data-dir", "data", "Directory of the lmdb store. One server at a time can use it."),
  maxStoreBytes: bytes(
    "max-store-bytes",
    64 * 1024 * MiB,
    [MiB, 2 ** 46],
    "Size that the store may reach: what its streams, batches and producers take on the disk or, with `--store memory`, in memory, about; there at most a third of what V8 may take (`node --max-old-space-size`). What would go beyond fails with RESOURCE_EXHAUSTED.",
  ),
  diskReserve: bytes(
    "disk-reserve",
    64 * MiB,
    [MiB, 2 ** 40],
    "Space on the disk of --data-dir that appends leave free, at most an eighth of the disk. Appends that would need it fail with RESOURCE_EXHAUSTED; reads, trims and deletes go on, in space that the store has allocated ahead. See docs/disk.md.",
  ),
  sweepInterval: duration("sweep-interval", minute, [100, day], "How often retention is applied to every stream."),
  producerTtl: duration(
    "producer-ttl",
    7 * day,
    [second, 365 * day],
    "How long an idle producer is remembered. A batch that it sends again later is not recognised.",
  ),

  tokensFile: string(
    "tokens-file",
    undefined,
    "JSON file with the tokens' names, SHA-256 hashes, scopes and expiry. Read again on SIGHUP and on change; streams whose token is gone end. A wrong one changes nothing.",
  ),
  jwks: string(
    "jwks",
    undefined,
    "File or URL of a JWKS: JWTs signed by its keys are accepted. Read again on SIGHUP, a file also on change.",
  ),
  jwtIssuer: string("jwt-issuer", undefined, "Required `iss` of a JWT. Unset accepts any."),
  jwtAudience: string("jwt-audience", undefined, "Required `aud` of a JWT. Unset accepts any."),
  openServices: list(
    "open-services",
    ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"],
    "Services that answer without a token, separated by commas; `none` for no service.",
  ),
  corsOrigins: list(
    "cors-origins",
    [],
    "Origins whose pages may call the server, such as `https://app.example.com`, separated by commas; `*` for any, which needs --tokens-file or --jwks. Unset: none.",
  ),
  allowedHosts: list(
    "allowed-hosts",
    [],
    "Hosts that the server answers to besides `localhost`, 127.0.0.0/8 and [::1], separated by commas and without ports; a request for another host gets 421. Unset: any host with --tokens-file or --jwks, and no other host with the token `sample`, because a page in a browser could reach the server by a name of its own (DNS rebinding). A proxy that passes on the `Host` of its clients needs it.",
  ),

  maxMessageBytes: bytes(
    "max-message-bytes",
    4 * MiB,
    [KiB, 1024 * MiB],
    "Largest message that is read. A larger one fails with RESOURCE_EXHAUSTED, and so does one with more fields, map entries and repeated elements than one for each 32 bytes of this limit (10,000 at least, and 16 for each of --max-batch-records).",
  ),
  maxOpenMessageBytes: bytes(
    "max-open-message-bytes",
    64 * KiB,
    [KiB, 1024 * MiB],
    "Largest message that is read by --open-services, which anybody may call. It only lowers --max-message-bytes.",
  ),
  maxRequestMemory: bytes(
    "max-request-memory",
    undefined,
    [16 * MiB, 2 ** 46],
    "Memory that all calls together may hold: requests that are read, inflated or decoded, messages that handlers hold, and answers that clients do not read, at what they take in memory. A call that would exceed it fails with RESOURCE_EXHAUSTED and the advice to try again; a quarter is kept for calls that hold at most 64 KiB. Unset: half of the limit of JavaScript's heap (node's --max-old-space-size).",
  ),
  maxBatchRecords: count("max-batch-records", 1000, [1, 100_000], "Records in one batch."),
  maxBatchBytes: bytes("max-batch-bytes", MiB, [KiB, 512 * MiB], "Size of one batch: data and headers."),
  maxPendingBytes: bytes(
    "max-pending-bytes",
    4 * MiB,
    [KiB, 1024 * MiB],
    "Batches of one call that wait for the disk. Beyond it the server stops reading from that call.",
  ),
  readChunkBytes: bytes(
    "read-chunk-bytes",
    256 * KiB,
    [KiB, 512 * MiB],
    "Size at which a read ends one message and begins the next. It bounds what a slow reader holds in memory.",
  ),
  compressStreams: boolean(
    "compress-streams",
    false,
    "Compress streamed responses if the client accepts it. Saves bandwidth, costs most of the throughput.",
  ),
  compressMinBytes: bytes(
    "compress-min-bytes",
    KiB,
    [0, 1024 * MiB],
    "Smallest message that is compressed when compression applies.",
  ),

  maxConnections: count(
    "max-connections",
    10_000,
    [1, 1_000_000],
    "Connections at once, over TCP and QUIC together. For one more, the connection that has been without a call the longest is closed; if all have calls, the new one is refused.",
  ),
  maxConnectionsPerAddress: count(
    "max-connections-per-address",
    undefined,
    [0, 1_000_000],
    "Connections at once of one address; an IPv6 address counts by its first 64 bits. One more is refused. 0 for any number, as behind a proxy. Unset: any number on loopback, elsewhere a tenth of --max-connections.",
  ),
  connectionIdleTimeout: duration(
    "connection-idle-timeout",
    2 * minute,
    [50, day],
    "How long a connection may be open without its first call; 10 s while more than half of --max-connections are taken. Neither requests to unknown paths nor calls without a valid token count. A connection that has had a call stays until its place is needed.",
  ),
  maxResetRate: count(
    "max-reset-rate",
    500,
    [1, 1_000_000],
    "Calls a second that the clients of one address may abandon: canceled, or cut off with their connection. Ten seconds' worth may come at once, and two on one connection. A connection without a call counts as one, with TLS or QUIC as five. Beyond it connections are closed, and new ones of the address are refused for as long as it has been ahead. Behind a proxy all clients share its address.",
  ),
  maxStreamsPerConnection: count(
    "max-streams-per-connection",
    1000,
    [1, 1_000_000],
    "Calls at once on one HTTP/2 connection, as advertised to the peer. One more is refused.",
  ),
  streamWindow: bytes(
    "stream-window",
    MiB,
    [64 * KiB - 1, 2 ** 31 - 1],
    "HTTP/2 flow control window of one stream: what a client may send ahead of the handler, and so what a slow handler holds in memory. A stream moves at most one window a round trip.",
  ),
  connectionWindow: bytes(
    "connection-window",
    16 * MiB,
    [64 * KiB - 1, 2 ** 31 - 1],
    "HTTP/2 flow control window of one connection: what all its streams together may have in flight.",
  ),
  streamBufferBytes: bytes(
    "stream-buffer-bytes",
    256 * KiB,
    [KiB, 1024 * MiB],
    "Messages of one stream that wait for the handler. Beyond it the server stops reading from that stream.",
  ),
  maxCalls: count(
    "max-calls",
    20_000,
    [1, 10_000_000],
    "Calls at once in the whole server. One more fails with RESOURCE_EXHAUSTED.",
  ),
  maxHeaderBytes: bytes("max-header-bytes", 16 * KiB, [KiB, MiB], "Size of the headers of one request."),
  headerTimeout: duration(
    "header-timeout",
    10 * second,
    [50, hour],
    "How long a connection may take for the TLS handshake and for the headers of a request.",
  ),
  unaryTimeout: duration(
    "unary-timeout",
    minute,
    [50, day],
    "Longest unary call. It bounds a longer deadline of the client, and applies if there is none. A longer call ends with UNAVAILABLE.",
  ),
  streamTimeout: duration(
    "stream-timeout",
    day,
    [50, 365 * day],
    "Longest streaming call. It bounds a longer deadline of the client, and applies if there is none. A longer call ends with UNAVAILABLE, and the clients of Sluice resume.",
  ),
  streamIdleTimeout: duration(
    "stream-idle-timeout",
    5 * minute,
    [50, day],
    "A streaming call without a byte in either direction for so long ends with UNAVAILABLE. Heartbeats keep following reads alive.",
  ),
  keepaliveInterval: duration(
    "keepalive-interval",
    20 * second,
    [50, day],
    "How often an HTTP/2 connection is pinged. Below 60 s it keeps load balancers from closing idle ones.",
  ),
  keepaliveTimeout: duration(
    "keepalive-timeout",
    10 * second,
    [50, day],
    "A peer that has not answered a ping by then is dead: its connection is closed.",
  ),
  maxConnectionAge: duration(
    "max-connection-age",
    hour,
    [50, 365 * day],
    "Age (+-10 %) at which a connection takes no more calls, so that clients spread over new servers.",
  ),
  maxConnectionAgeGrace: duration(
    "max-connection-age-grace",
    10 * minute,
    [0, day],
    "How long the calls of an aged connection may go on. Then they end with UNAVAILABLE and can be resumed.",
  ),
  heartbeatInterval: duration(
    "heartbeat-interval",
    20 * second,
    [50, hour],
    "Heartbeats of following reads that do not ask for another interval.",
  ),
  drainDelay: duration(
    "drain-delay",
    0,
    [0, hour],
    "How long after SIGTERM the server goes on as before, except that its health is NOT_SERVING, so that load balancers turn away from it before it drains. In Kubernetes more than an endpoint's removal takes, such as 10s; terminationGracePeriodSeconds must hold it and --drain-timeout.",
  ),
  drainTimeout: duration(
    "drain-timeout",
    10 * second,
    [0, hour],
    "How long running calls may go on after SIGTERM. Then the rest is closed.",
  ),

  adminPort: count(
    "admin-port",
    undefined,
    [0, 65535],
    "Port for Prometheus metrics at /metrics, without a token; 0 takes a free one. Unset: none.",
  ),
  adminHost: string("admin-host", "127.0.0.1", "Address of --admin-port."),
  logLevel: oneOf(
    "log-level",
    ["trace", "debug", "info", "warn", "error", "silent"],
    "info",
    "Least level that is logged, as JSON lines on standard error. `debug` adds request headers: all names, and the values of those that are known to hold no secret.",
  ),
} as const satisfies Record<string, OptionSpec<unknown>>;

/** The options that every client command of `sluice` takes. */
export const clientOptions = {
  url: string("url", "http://127.0.0.1:8080", "Server to call."),
  token: string("token", undefined, "Token to send. On loopback the default is `sample`."),
  ca: string("ca", undefined, "PEM file with the CA to trust, as `sluice cert` writes it."),
  cert: string("cert", undefined, "PEM file with a client certificate, for a server that has --tls-client-ca."),
  key: string("key", undefined, "PEM file with the private key of --cert."),
  protocol: oneOf("protocol", ["connect", "grpc", "grpc-web"], "connect", "RPC protocol."),
  httpVersion: oneOf(
    "http-version",
    ["1.1", "2", "3"],
    "2",
    "HTTP version. Bidi streaming needs 2 or 3; 3 needs https.",
  ),
  // A server has an option of this name too.
  http3: { ...boolean("http3", false, "The same as --http-version 3."), env: "SLUICE_CLIENT_HTTP3" },
  timeout: duration("timeout", 0, [0, 365 * day], "Deadline for each call; 0 for none."),
} as const satisfies Record<string, OptionSpec<unknown>>;

/** The options of the commands that copy a store. */
export const backupOptions = {
  dataDir: serverOptions.dataDir,
  rate: {
    ...bytes(
      "rate",
      64 * MiB,
      [0, 2 ** 40],
      "Bytes a second that are read at most, so that a server on the same disk is not slowed down; 0 for no limit.",
    ),
    env: "SLUICE_BACKUP_RATE",
  },
} as const satisfies Record<string, OptionSpec<unknown>>;

type Specs = Readonly<Record<string, OptionSpec<unknown>>>;
type Values<S extends Specs> = { readonly [K in keyof S]: S[K] extends OptionSpec<infer T> ? T : never };

/** The options of a server, complete and checked. Durations are milliseconds. */
export type Config = Values<typeof serverOptions>;
/** The options of a client command. */
export type ClientConfig = Values<typeof clientOptions>;

/** The token that a server on loopback accepts, and a client sends to it, when nothing else is configured. */
export const sampleToken = "sample";

/**
 * Fills in defaults and checks values that are given as TypeScript values.
 * Fails with a DomainError of kind "config".
 */
export function resolveConfig(given: Partial<Config> = {}): Config {
  const values: Record<string, unknown> = {};
  for (const [key, spec] of Object.entries(serverOptions) as [string, OptionSpec<unknown>][]) {
    const value = (given as Record<string, unknown>)[key];
    if (value === undefined) {
      values[key] = spec.default;
      continue;
    }
    if ("min" in spec.type) {
      checkRange(`--${spec.flag}`, value, spec.type);
    }
    values[key] = value;
  }
  return checked(values as Config);
}

/** Reads options from flags (by option key, as text) and from the environment. */
export function parseOptions<S extends Specs>(
  specs: S,
  flags: Readonly<Record<string, string | boolean | undefined>>,
  env: Readonly<Record<string, string | undefined>>,
): Values<S> {
  const values: Record<string, unknown> = {};
  for (const [key, spec] of Object.entries(specs)) {
    const flag = flags[key];
    // An empty variable counts as unset, as `VAR= command` is the usual way to unset one.
    const text = flag ?? (env[spec.env] === "" ? undefined : env[spec.env]);
    const name = flag === undefined ? spec.env : `--${spec.flag}`;
    values[key] = text === undefined ? spec.default : parse(name, text, spec.type);
  }
  return values as Values<S>;
}

/** The server's options from flags and environment. */
export function parseServerConfig(
  flags: Readonly<Record<string, string | boolean | undefined>>,
  env: Readonly<Record<string, string | undefined>>,
): Config {
  return checked(parseOptions(serverOptions, flags, env));
}

/** Whether only programs on the same machine can reach this address. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** Whether the server takes the token `sample`: on loopback, when nothing says which tokens there are. */
export function takesSampleToken(config: Pick<Config, "host" | "tokensFile" | "jwks">): boolean {
  return config.tokensFile === undefined && config.jwks === undefined && isLoopback(config.host);
}

function checked(config: Config): Config {
  if ((config.tlsCert === undefined) !== (config.tlsKey === undefined)) {
    throw invalid("--tls-cert and --tls-key must be given together");
  }
  if (config.tlsClientCa !== undefined && config.tlsCert === undefined) {
    throw invalid("--tls-client-ca needs --tls-cert and --tls-key: only TLS has client certificates");
  }
  if (config.http3 && config.tlsCert === undefined) {
    throw invalid("--http3 needs --tls-cert and --tls-key: QUIC is always encrypted (`sluice cert` makes them)");
  }
  if (config.webtransportPath !== "none" && !/^\/[^?#\s]*$/.test(config.webtransportPath)) {
    throw invalid(`--webtransport-path must begin with a slash, or be "none", not "${config.webtransportPath}"`);
  }
  if (config.tokensFile === undefined && config.jwks === undefined && !isLoopback(config.host)) {
    throw invalid(
      `refusing to listen on ${config.host} without --tokens-file or --jwks: anybody could get in. Give one of them, or listen on 127.0.0.1`,
    );
  }
  for (const origin of config.corsOrigins) checkOrigin(origin);
  if (config.corsOrigins.includes("*") && takesSampleToken(config)) {
    throw invalid(
      '--cors-origins "*" needs --tokens-file or --jwks: without them the token is "sample", and every page in a browser on this machine could read and change the streams. Give one of them, or list the origins',
    );
  }
  for (const host of config.allowedHosts) {
    if (listedHost(host) === undefined) {
      throw invalid(
        `--allowed-hosts must be hosts without scheme and port, such as sluice.example.com, 10.0.0.7 or [fd00::7], not "${host}"`,
      );
    }
  }
  if (config.maxBatchBytes > config.maxMessageBytes) {
    throw invalid("--max-batch-bytes must not be larger than --max-message-bytes: such a batch could never arrive");
  }
  return Object.freeze(config);
}

/** An origin as browsers send it: RFC 6454, section 6.2. */
function checkOrigin(origin: string): void {
  if (origin === "*") return;
  const example = "an origin such as https://app.example.com";
  if (origin === "null") {
    throw invalid(
      `--cors-origins must not list "null": it is the origin of every sandboxed page and of every file; give ${example}`,
    );
  }
  const url = URL.parse(origin);
  // Schemes that the URL standard does not know, such as those of extensions, have an origin that it calls opaque.
  const right =
    url === null || url.host === "" ? undefined : url.origin === "null" ? `${url.protocol}//${url.host}` : url.origin;
  // A star is a character as others in a URL; here it would look like a pattern.
  if (right === origin && !origin.includes("*")) return;
  if (origin.includes("*")) {
    throw invalid(`--cors-origins has "${origin}", but takes no patterns: list each origin, or "*" alone for any`);
  }
  const advice = right === undefined ? `${example}, with its scheme` : `"${right}", as browsers send it`;
  throw invalid(`--cors-origins has "${origin}", which is no origin: give ${advice}`);
}

function parse(name: string, text: string | boolean, type: Kind): unknown {
  if (type.kind === "boolean") {
    if (text === true || text === "true" || text === "1") return true;
    if (text === false || text === "false" || text === "0") return false;
    throw invalid(`${name} must be true or false, not "${text}"`);
  }
  if (typeof text === "boolean") {
    throw invalid(`${name} needs a value`);
  }
  switch (type.kind) {
    case "string":
      return text;
    case "list":
      return text === "none"
        ? []
        : text
            .split(",")
            .map((item) => item.trim())
            .filter((item) => item !== "");
    case "enum":
      if (!type.values.includes(text)) {
        throw invalid(`${name} must be one of ${type.values.join(", ")}, not "${text}"`);
      }
      return text;
    case "count": {
      const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
      return checkRange(name, value, type, text);
    }
    case "bytes":
      return checkRange(name, parseBytes(text), type, text);
    case "duration":
      return checkRange(name, parseDuration(text), type, text);
  }
}

/** `10s` -> 10000; NaN if it is not a duration. Units: ms, s, m, h, d. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)$/.exec(text.trim());
  if (match === null) return text.trim() === "0" ? 0 : NaN;
  const unit = { ms: 1, s: second, m: minute, h: hour, d: day }[match[2] as "ms" | "s" | "m" | "h" | "d"];
  return Math.round(Number(match[1]) * unit);
}

/** `4MiB` -> 4194304; NaN if it is not a size. Units: B (or none), KiB, MiB, GiB, TiB. */
export function parseBytes(text: string): number {
  const match = /^(\d{1,15})(B|KiB|MiB|GiB|TiB)?$/.exec(text.trim());
  if (match === null) return NaN;
  const unit = { B: 1, KiB, MiB, GiB: 1024 * MiB, TiB: 1024 * 1024 * MiB }[
    (match[2] ?? "B") as "B" | "KiB" | "MiB" | "GiB" | "TiB"
  ];
  return Number(match[1]) * unit;
}

/** 10000 -> `10s`, in the largest unit that gives a whole number. */
export function formatDuration(ms: number): string {
  for (const [unit, size] of [
    ["d", day],
    ["h", hour],
    ["m", minute],
    ["s", second],
  ] as const) {
    if (ms !== 0 && ms % size === 0) return `${ms / size}${unit}`;
  }
  return ms === 0 ? "0" : `${ms}ms`;
}

/** 4194304 -> `4MiB`, in the largest unit that gives a whole number. */
export function formatBytes(size: number): string {
  for (const [unit, unitSize] of [
    ["TiB", 1024 * 1024 * MiB],
    ["GiB", 1024 * MiB],
    ["MiB", MiB],
    ["KiB", KiB],
  ] as const) {
    if (size !== 0 && size % unitSize === 0) return `${size / unitSize}${unit}`;
  }
  return `${size}`;
}

type Range = Extract<Kind, { min: number }>;

function checkRange(name: string, value: unknown, range: Range, text = String(value)): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= range.min && value <= range.max) {
    return value;
  }
  const show =
    range.kind === "duration" ? formatDuration : range.kind === "bytes" ? formatBytes : (n: number) => String(n);
  const what =
    range.kind === "duration"
      ? "a duration such as 250ms, 10s or 5m"
      : range.kind === "bytes"
        ? "a size such as 65536, 64KiB or 4MiB"
        : "a whole number";
  throw invalid(`${name} must be ${what}, from ${show(range.min)} to ${show(range.max)}, not "${text}"`);
}

function invalid(detail: string): DomainError {
  return new DomainError({ kind: "config", detail });
}
