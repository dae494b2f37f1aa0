/** What native/src/binding.rs gives. */

export interface NativeLimits {
  /** Requests at once on one connection. */
  readonly streams: number;
  /** Bytes that a peer may send ahead on one stream, and on a connection. */
  readonly streamWindow: number;
  readonly connectionWindow: number;
  /** Unacknowledged bytes that one connection holds. */
  readonly sendWindow: number;
  readonly idleTimeoutMs: number;
  readonly keepaliveMs: number;
  readonly headerBytes: number;
  /** For the handshake, and for the headers of a request. */
  readonly headerTimeoutMs: number;
  /** How long a server that owes an answer may take, until its connection is given up. Servers have no use for it. */
  readonly answerTimeoutMs: number;
  /** Whether sessions of WebTransport are served. Default: false. */
  readonly webtransport?: boolean;
}

/** PEM. */
export interface NativeIdentity {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** Kinds of events, by the number that they have in native/src/binding.rs. */
export const eventKinds = {
  connectionOpened: 0,
  connectionClosed: 1,
  request: 2,
  head: 3,
  data: 4,
  end: 5,
  drained: 6,
  finished: 7,
  broken: 8,
  sessionStream: 9,
  datagrams: 10,
  checked: 11,
  silent: 12,
  panicked: 13,
} as const;

/** What is to be known of a client's connection before it gets a request. */
export const connectionStates = {
  /** It is closed, or its server has asked to make no more requests. */
  unusable: 0,
  ready: 1,
  /** Nothing has been heard of it for a while: it is to be checked first. */
  quiet: 2,
} as const;

export interface NativeEvent {
  readonly kind: number;
  /** Of the stream, or of the connection if it is about that. */
  readonly id: number;
  /** That a request has come on; of a session's stream, the number of the request that opened the session. */
  readonly connection?: number;
  /** Status of a head; error code of an end, if it has one; of a check, 1 if the server has answered. */
  readonly code?: number;
  /** Bytes of the body that have been copied. */
  readonly length?: number;
  /**
   * Names and values by turns, of a head or of trailers; before them method,
   * scheme, authority, path and protocol of a request. Of an end, how and why; of
   * an opened connection, its peer; of a panic, its message.
   */
  readonly text?: readonly string[];
  readonly datagrams?: readonly Buffer[];
}

export interface NativeTaken {
  readonly events: readonly NativeEvent[];
  /** There may be others, for which there is no wake. */
  readonly more: boolean;
}

export interface NativeCounters {
  readonly connections: number;
  readonly connectionsOpened: number;
  readonly connectionsRefused: number;
  /** Clients that were asked to prove their address. */
  readonly retries: number;
  /** That JavaScript has not let go yet. */
  readonly streams: number;
  readonly streamsOpened: number;
  /** Bytes of bodies that wait for JavaScript, or for the transport. */
  readonly bytesHeld: number;
  /** Of the whole process. */
  readonly panics: number;
}

export interface NativeEngine {
  /** Returns the port. The message of its error begins with the system's error number, or 0, and a blank. */
  listen(
    hosts: readonly string[],
    port: number,
    identity: NativeIdentity,
    clientCa: Buffer | undefined,
    maxConnections: number,
    limits: NativeLimits,
    /** At least 32 bytes, the same after a restart; otherwise at random. */
    secret: Buffer | undefined,
  ): number;
  setTls(identity: NativeIdentity, clientCa: Buffer | undefined): void;
  /** Of one connection, or of all: then no new ones are taken either. */
  goaway(connection?: number): void;
  trust(ca: Buffer, identity: NativeIdentity | undefined, limits: NativeLimits): void;
  connect(hosts: readonly string[], port: number, name: string): number;
  /** One of `connectionStates`. */
  state(connection: number): number;
  /** Asks the server for a sign of life: an event of kind `checked` follows. */
  check(connection: number): void;
  /** Another connection to the same server has opened: this one is given up if its server still owes an answer. */
  replaced(connection: number): void;
  request(connection: number, method: string, url: string, fields: readonly string[]): number;
  closeConnection(connection: number): void;
  /** Copies the bytes of bodies into `into`, one after the other, in the order of the events. */
  take(into: Buffer): NativeTaken;
  sendHead(stream: number, status: number, fields: readonly string[]): void;
  write(stream: number, bytes: Uint8Array, more: boolean): boolean;
  finish(stream: number, trailers: readonly string[]): void;
  reset(stream: number, code: number): void;
  stopReading(stream: number, code: number): void;
  pause(stream: number): void;
  resume(stream: number): void;
  release(stream: number): void;
  sendDatagram(session: number, bytes: Uint8Array): boolean;
  maxDatagram(session: number): number;
  counters(): NativeCounters;
  close(): Promise<void>;
}

export interface NativeBinding {
  /** SHA-256 of the sources that it was built from (scripts/native-sources.ts). */
  readonly nativeSources: () => string;
  readonly NativeEngine: new (wake: () => void) => NativeEngine;
}
