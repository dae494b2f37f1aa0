import { Code } from "@connectrpc/connect";
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { again } from "../async/again.ts";
import { raise } from "../async/guard.ts";
import { DomainError, isPortInUse } from "../errors.ts";
import { hostOf } from "../listen/address-group.ts";
import { Admission } from "../listen/admission.ts";
import type { AdmissionOptions } from "../listen/admission.ts";
import { followAge } from "../listen/connection-age.ts";
import type { ConnectionAgeOptions } from "../listen/connection-age.ts";
import type { Place } from "../listen/places.ts";
import type { HttpExchange } from "../runtime/exchange.ts";
import { Http3Engine, h3Codes } from "./engine.ts";
import { Http3Exchange } from "./http3-exchange.ts";
import type { Http3Connection } from "./http3-exchange.ts";
import type { NativeCounters } from "./native.ts";
import { WebTransportServer } from "./webtransport-server.ts";
import type { WebTransportOptions } from "./webtransport-server.ts";

/** PEM. */
export interface Http3Identity {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  readonly clientCa?: string | Buffer;
}

export interface Http3ListenOptions extends ConnectionAgeOptions, AdmissionOptions {
  /** The account of room, if another listener has a part in it. */
  readonly admission?: Admission;
  readonly host: string;
  /** UDP; 0 takes a free one. */
  readonly port: number;
  readonly tls: Http3Identity;
  /** Kept over restarts, so that clients learn at once that their connections are gone; 32 bytes. Default: random. */
  readonly secret?: Buffer | undefined;
  readonly maxStreamsPerConnection: number;
  /** Bytes, as all with such names. */
  readonly streamWindow: number;
  readonly connectionWindow: number;
  readonly maxHeaderBytes: number;
  /** Milliseconds, as all that follow. */
  readonly headerTimeout: number;
  readonly keepaliveInterval: number;
  readonly keepaliveTimeout: number;
  /** Ends the calls of a connection whose grace is over, so that their clients are told. */
  readonly onAged?: (connection: object) => void;
  /** The engine has panicked: its message, with the place in its sources. */
  readonly onPanic?: (message: string) => void;
  /** Sessions of WebTransport are served with it. */
  readonly webtransport?: Pick<
    WebTransportOptions,
    "serve" | "path" | "origins" | "admit" | "onRefused" | "onUnknownPath"
  >;
  /**
   * Answers a request for a session whose host is not served, and returns whether it has. Default: every host is served.
   */
  readonly refuseHost?: ((exchange: HttpExchange) => boolean) | undefined;
}

export interface Http3Listener {
  readonly port: number;
  readonly counters: NativeCounters;
  /** From now on, handshakes get this certificate. Fails with "config", and changes nothing, if it cannot be used. */
  setTls(tls: Http3Identity): void;
  /** Takes no more connections, and tells the peers of the open ones to call no more. */
  drain(): void;
  /** Closes what is left, once what has been answered has arrived. */
  close(): Promise<void>;
}

interface Open extends Http3Connection {
  readonly place: Place;
  /** To be called when it has closed. */
  readonly closed: () => void;
}

/** Listens for HTTP/3. Fails with "config" if the address, the certificate or the engine cannot be used. */
export async function listenHttp3(
  serve: (exchange: HttpExchange) => void,
  options: Http3ListenOptions,
): Promise<Http3Listener> {
  const open = new Map<number, Open>();
  const admission = options.admission ?? new Admission(options);
  const sessions =
    options.webtransport === undefined
      ? undefined
      : new WebTransportServer({
          ...options.webtransport,
          maxHeaderBytes: options.maxHeaderBytes,
          headerTimeout: options.headerTimeout,
          onUsed(connection) {
            admission.used(connection);
          },
          onAbandoned(connection) {
            admission.abandoned(connection);
          },
        });
  const engine = new Http3Engine({
    onConnectionOpened(id, peer) {
      const retire = (): void => {
        engine.native.goaway(id);
        sessions?.drain(connection);
      };
      const close = (): void => {
        engine.native.closeConnection(id);
      };
      const place = admission.enter(hostOf(peer), "encrypted", { dismiss: retire, close });
      if (typeof place === "string") {
        close();
        return;
      }
      const connection: Open = {
        peer,
        place,
        closed: followAge(options, {
          retire,
          endCalls() {
            options.onAged?.(connection);
          },
          close,
        }),
      };
      admission.carry(place, connection);
      open.set(id, connection);
    },
    onConnectionClosed(id) {
      const connection = open.get(id);
      if (connection === undefined) return;
      connection.closed();
      admission.leave(connection.place);
      open.delete(id);
    },
    onRequest(stream, head) {
      const connection = open.get(head.connection);
      // The connection has closed since.
      if (connection === undefined) stream.release();
      else if (head.protocol !== "webtransport" || sessions === undefined) {
        serve(new Http3Exchange(stream, head, connection));
      } else if (options.refuseHost?.(new Http3Exchange(stream, head, connection)) !== true) {
        sessions.request(stream, head, connection);
      }
    },
    onSessionStream(session, stream) {
      if (sessions?.stream(session, stream) === true) return;
      stream.reset(h3Codes.requestCancelled);
      stream.release();
    },
    onDatagrams(session, datagrams) {
      sessions?.datagrams(session, datagrams);
    },
    onUnexpected: options.onUnexpected ?? raise,
    onPanic(message) {
      options.onPanic?.(message);
    },
  });

  const hosts = await addressesOf(options.host);
  // A port that the system has chosen for one family may be in use with the other.
  const attempts = options.port === 0 ? 20 : 1;
  const port = await again(attempts, isPortInUse, () => bind(engine, hosts, options));
  // As a listening socket of Node's does.
  engine.hold();
  let closing: Promise<void> | undefined;
  return {
    port,
    get counters() {
      return engine.counters;
    },
    setTls(tls) {
      checked(() => {
        engine.native.setTls(identityOf(tls), bufferOf(tls.clientCa));
      });
    },
    drain() {
      engine.native.goaway();
      sessions?.drain();
    },
    close() {
      sessions?.close(Code.Unavailable, "the server is closed");
      return (closing ??= engine.native.close().then(() => {
        for (const { closed } of open.values()) closed();
        engine.release();
      }));
    },
  };
}

/** "localhost" stands for both families, because clients try either first. */
async function addressesOf(host: string): Promise<string[]> {
  const bare = host.replace(/^\[(.*)\]$/, "$1");
  if (isIP(bare) !== 0) return [bare];
  if (bare === "localhost") return ["127.0.0.1", "::1"];
  try {
    return [(await lookup(bare)).address];
  } catch (cause) {
    throw new DomainError({ kind: "config", detail: `--host ${host} is not an address of this machine` }, { cause });
  }
}

/** Error numbers of Linux and macOS, by what they mean. */
const systemErrors = { inUse: [98, 48], notAvailable: [99, 49, 97, 47], forbidden: [13] };

/**
 * Connections that the engine holds, at most. It counts handshakes too, and refuses before JavaScript can make room for
 * one more: so it leaves the limit to the account of room, and has its own above it.
 */
function maxHeld(maxConnections: number): number {
  return Math.max(maxConnections + 64, Math.ceil(maxConnections * 1.5));
}

function bind(engine: Http3Engine, hosts: readonly string[], options: Http3ListenOptions): number {
  const { host, port, tls, maxConnections } = options;
  try {
    const limits = {
      streams: options.maxStreamsPerConnection,
      streamWindow: options.streamWindow,
      connectionWindow: options.connectionWindow,
      sendWindow: options.connectionWindow,
      idleTimeoutMs: options.keepaliveInterval + options.keepaliveTimeout,
      keepaliveMs: options.keepaliveInterval,
      headerBytes: options.maxHeaderBytes,
      headerTimeoutMs: options.headerTimeout,
      answerTimeoutMs: options.keepaliveTimeout,
      webtransport: options.webtransport !== undefined,
    };
    const clientCa = bufferOf(tls.clientCa);
    return engine.native.listen(
      hosts,
      port,
      identityOf(tls),
      clientCa,
      maxHeld(maxConnections),
      limits,
      options.secret,
    );
  } catch (cause) {
    const [, number, reason] = /^(\d+) (.*)$/s.exec(messageOf(cause)) ?? [];
    const code = Number(number);
    // A machine may have no IPv6.
    if (hosts.length > 1 && systemErrors.notAvailable.includes(code)) return bind(engine, hosts.slice(0, 1), options);
    const inUse = systemErrors.inUse.includes(code);
    const detail = inUse
      ? `UDP port ${port} of ${host} is in use: stop the other program, or choose another --http3-port (0 takes a free one)`
      : systemErrors.forbidden.includes(code)
        ? `UDP port ${port} may not be used by this user: choose an --http3-port above 1023`
        : systemErrors.notAvailable.includes(code)
          ? `--host ${host} is not an address of this machine`
          : code === 0
            ? `the certificate or its key cannot be used for HTTP/3 (${reason ?? ""})`
            : `cannot listen on ${host}, UDP port ${port}: ${reason ?? messageOf(cause)}`;
    // As Node's own errors say it.
    throw new DomainError({ kind: "config", detail }, { cause: inUse ? { code: "EADDRINUSE", cause } : cause });
  }
}

function checked(run: () => void): void {
  try {
    run();
  } catch (cause) {
    const detail = `the certificate or its key cannot be used for HTTP/3 (${messageOf(cause)})`;
    throw new DomainError({ kind: "config", detail }, { cause });
  }
}

function identityOf({ cert, key }: Http3Identity): { cert: Buffer; key: Buffer } {
  return { cert: Buffer.from(cert), key: Buffer.from(key) };
}

function bufferOf(pem: string | Buffer | undefined): Buffer | undefined {
  return pem === undefined ? undefined : Buffer.from(pem);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
