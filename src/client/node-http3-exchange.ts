import { Code, ConnectError } from "@connectrpc/connect";
import { lookup } from "node:dns/promises";
import { getCACertificates, rootCertificates } from "node:tls";
import { Http3Engine, h3Codes } from "../http3/engine.ts";
import type { End, Http3Stream } from "../http3/engine.ts";
import { connectionStates } from "../http3/native.ts";
import { lend } from "../wire/lent.ts";
import type { ClientExchange, ExchangeRequest, OpenExchange, ResponseReceiver } from "./client-exchange.ts";
import { errorOfNode } from "./node-errors.ts";

export interface Http3Options {
  /** Bytes that a server may send ahead on one stream, and on the connection. */
  readonly streamWindow: number;
  readonly connectionWindow: number;
  /** How often a connection is checked, and how long the answer may take, in milliseconds. */
  readonly pingIntervalMs: number;
  readonly pingTimeoutMs: number;
  readonly tls: Partial<Record<"ca" | "cert" | "key", string | Buffer>>;
}

/** How long it may take to connect, in milliseconds. */
const connectTimeoutMs = 10_000;

/** How long a connection that has been quiet may take to give a sign of life, before another one is tried. */
const signOfLifeMs = 500;

/**
 * A connection that got no request for so long is checked before it gets one, in milliseconds: less than a server takes
 * to start again. The engine, which knows when it last heard of the server, takes longer to see that it is quiet.
 */
const trustMs = 100;

/** Bytes of the headers of one response. */
const maxHeaderBytes = 64 * 1024;

/** An attempt at a connection. */
interface Opening {
  readonly id: number;
  readonly ready: PromiseWithResolvers<number>;
}

/**
 * A connection to a server over QUIC, replaced when it is lost or when the server
 * asks for that. A server that has been killed says nothing: a connection that
 * has been quiet is asked for a sign of life before it gets a call, and beside
 * one whose server owes an answer another is tried, which takes its place if it
 * opens.
 */
export function createHttp3Exchanges(
  url: string,
  options: Http3Options,
): { readonly open: OpenExchange; readonly close: () => void } {
  let engine: Http3Engine | undefined;
  /** The connection that calls go to. */
  let current: number | undefined;
  /** Others that still have calls, or whose server may be gone. */
  const replaced = new Set<number>();
  let opening: Opening | undefined;
  let connecting: Promise<number> | undefined;
  /** Connections that are asked for a sign of life. */
  const checks = new Map<number, PromiseWithResolvers<boolean>>();

  function createEngine(): Http3Engine {
    const made = new Http3Engine({
      onConnectionOpened(id) {
        if (opening?.id !== id) return;
        if (current !== undefined) {
          replaced.add(current);
          made.native.replaced(current);
        }
        current = id;
        opening.ready.resolve(id);
        opening = undefined;
      },
      onConnectionClosed(id, end) {
        replaced.delete(id);
        if (current === id) current = undefined;
        if (opening?.id !== id) return;
        opening.ready.reject(connectError(url, end));
        opening = undefined;
      },
      onChecked(id, answered) {
        checks.get(id)?.resolve(answered);
      },
      onSilent(id) {
        // Whether it opens or not: the next call is told why.
        if (current === id) replace(made).catch(() => undefined);
      },
    });
    const { ca, cert, key } = options.tls;
    const identity =
      cert === undefined || key === undefined ? undefined : { cert: Buffer.from(cert), key: Buffer.from(key) };
    made.native.trust(ca === undefined ? systemCas() : Buffer.from(ca), identity, {
      // A server opens no requests.
      streams: 0,
      streamWindow: options.streamWindow,
      connectionWindow: options.connectionWindow,
      sendWindow: options.connectionWindow,
      idleTimeoutMs: options.pingIntervalMs + options.pingTimeoutMs,
      keepaliveMs: options.pingIntervalMs,
      headerBytes: maxHeaderBytes,
      headerTimeoutMs: connectTimeoutMs,
      answerTimeoutMs: options.pingTimeoutMs,
    });
    return made;
  }

  /** When a request was last given its connection. */
  let usedAt = -Infinity;

  async function connect(with_: Http3Engine): Promise<number> {
    const { hostname, port } = new URL(url);
    const name = hostname.replace(/^\[(.*)\]$/, "$1");
    const addresses = await lookup(name, { all: true });
    const id = with_.native.connect(
      addresses.map(({ address }) => address),
      port === "" ? 443 : Number(port),
      name,
    );
    opening = { id, ready: Promise.withResolvers<number>() };
    return opening.ready.promise;
  }

  /** The open connection, or a new one. */
  async function connection(with_: Http3Engine): Promise<number> {
    for (let id = current; id !== undefined;) {
      const state = with_.native.state(id);
      const usedMs = performance.now() - usedAt;
      const known = state === connectionStates.ready || state === connectionStates.quiet;
      const fresh = state === connectionStates.ready && usedMs < trustMs;
      const usable = fresh || (known && (await answers(with_, id)));
      if (usable && current === id) {
        usedAt = performance.now();
        return id;
      }
      if (current === undefined || current === id) break;
      // It has been replaced meanwhile.
      id = current;
    }
    return replace(with_);
  }

  /** Whether the server still knows the connection. All that ask at once wait for the same answer. */
  function answers(with_: Http3Engine, id: number): Promise<boolean> {
    const asked = checks.get(id);
    if (asked !== undefined) return asked.promise;
    const check = Promise.withResolvers<boolean>();
    checks.set(id, check);
    const timer = setTimeout(check.resolve, signOfLifeMs, false);
    with_.native.check(id);
    return check.promise.finally(() => {
      clearTimeout(timer);
      checks.delete(id);
    });
  }

  /** Connects; all that ask at once wait for the same. The connection from before stays for its calls. */
  function replace(with_: Http3Engine): Promise<number> {
    return (connecting ??= connect(with_).finally(() => (connecting = undefined)));
  }

  return {
    async open(request, receiver) {
      let using: Http3Engine;
      try {
        using = engine ??= createEngine();
      } catch (error) {
        throw new ConnectError(messageOf(error), Code.Internal, undefined, undefined, error);
      }
      using.hold();
      try {
        const id = await connection(using);
        return new Http3ClientExchange(using, id, request, receiver);
      } catch (error) {
        using.release();
        throw error instanceof ConnectError ? error : errorOfNode(error as Error);
      }
    },
    close() {
      for (const id of replaced) engine?.native.closeConnection(id);
      if (current !== undefined) engine?.native.closeConnection(current);
    },
  };
}

class Http3ClientExchange implements ClientExchange {
  readonly #engine: Http3Engine;
  readonly #stream: Http3Stream;
  readonly #split: boolean;
  #ended = false;
  #over = false;
  /** The request is out, or the server wants no more of it. */
  #sent = false;
  /** The response has arrived, or no more of it is wanted. */
  #received = false;

  constructor(
    engine: Http3Engine,
    connection: number,
    { method, url, header, split = false }: ExchangeRequest,
    receiver: ResponseReceiver,
  ) {
    this.#engine = engine;
    this.#split = split;
    this.#stream = engine.request(connection, method, url, header, {
      onHead: (status, responseHeader) => {
        receiver.onHead(status, responseHeader);
      },
      onLent: (chunk) => {
        lend(chunk, receiver);
      },
      onDrain: () => {
        receiver.onDrain();
      },
      onFinished: () => {
        this.#sent = true;
        if (!this.#ended) {
          if (split) receiver.onStopped?.();
          else receiver.onDrain();
        }
        this.#releaseIfDone();
      },
      onEnd: (trailer) => {
        this.#received = true;
        if (!split) {
          // What is still being sent has no reader any more.
          if (!this.#ended) this.#stream.reset(h3Codes.noError);
          this.#sent = true;
        }
        this.#releaseIfDone();
        receiver.onEnd(trailer);
      },
      onBroken: (end) => {
        this.#finish();
        receiver.onError(errorOfEnd(end));
      },
    });
  }

  write(pieces: readonly Uint8Array[], sent: () => void): boolean {
    if (this.#over || this.#ended || this.#sent) return true;
    const open = this.#stream.write(pieces);
    // They have been copied.
    sent();
    return open;
  }

  end(): void {
    if (this.#over || this.#ended) return;
    this.#ended = true;
    this.#stream.finish();
  }

  reset(why: "canceled" | "error"): void {
    if (this.#over) return;
    this.#finish();
    this.#stream.reset(why === "canceled" ? h3Codes.requestCancelled : h3Codes.internalError);
    this.#stream.release();
  }

  stopReceiving(): void {
    if (this.#over || this.#received) return;
    if (!this.#split) {
      this.reset("canceled");
      return;
    }
    this.#stream.stopReading(h3Codes.noError);
    this.#received = true;
    this.#releaseIfDone();
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  #releaseIfDone(): void {
    if (this.#over || !this.#received || !this.#sent) return;
    this.#finish();
    this.#stream.release();
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    this.#engine.release();
  }
}

/** What the codes of RFC 9114 mean for a call; all others are bugs of one of the two. */
const codesOfReset: Readonly<Record<number, Code>> = {
  [h3Codes.noError]: Code.Unavailable,
  [h3Codes.requestRejected]: Code.Unavailable,
  [h3Codes.requestCancelled]: Code.Canceled,
  [h3Codes.excessiveLoad]: Code.ResourceExhausted,
};

function errorOfEnd({ how, code, reason }: End): ConnectError {
  switch (how) {
    case "peer":
      return new ConnectError(
        `the HTTP/3 stream was reset with error code 0x${(code ?? 0).toString(16)}`,
        codesOfReset[code ?? 0] ?? Code.Internal,
      );
    case "local":
      return new ConnectError(
        `HTTP/3: ${reason} (0x${(code ?? 0).toString(16)})`,
        codesOfReset[code ?? 0] ?? Code.Internal,
      );
    case "timeout":
    case "lost":
    case "handshake":
      return new ConnectError("the connection ended before the response was complete", Code.Unavailable);
  }
}

/** Why there is no connection. The cause has the code that Node has for the same with TLS over TCP, if there is such. */
function connectError(url: string, end: End): ConnectError {
  switch (end.how) {
    case "timeout":
      return because(`${url} does not answer over UDP: is HTTP/3 on there?`, Code.Unavailable, "ERR_QUIC_NO_ANSWER");
    case "handshake":
      return because(`TLS with ${url} failed: ${end.reason}`, Code.Internal, codeOfHandshake(end.reason));
    case "peer":
    case "local":
    case "lost":
      return because(`no HTTP/3 connection to ${url}: ${end.reason}`, Code.Unavailable, "ECONNRESET");
  }
}

function codeOfHandshake(reason: string): string {
  // The latter is a CA of the same name, but not the same.
  if (/UnknownIssuer|BadSignature/.test(reason)) return "UNABLE_TO_VERIFY_LEAF_SIGNATURE";
  if (/not valid for name|NotValidForName/.test(reason)) return "ERR_TLS_CERT_ALTNAME_INVALID";
  if (/expired/i.test(reason)) return "CERT_HAS_EXPIRED";
  if (/not valid yet|NotValidYet/.test(reason)) return "CERT_NOT_YET_VALID";
  return "ERR_SSL_QUIC";
}

function because(message: string, code: Code, systemCode: string): ConnectError {
  const cause = Object.assign(new Error(message), { code: systemCode });
  return new ConnectError(message, code, undefined, undefined, cause);
}

/** What Node trusts for https. */
function systemCas(): Buffer {
  // Of Node 22.15; before, Node's own were the default.
  const get = getCACertificates as typeof getCACertificates | undefined;
  return Buffer.from((get === undefined ? rootCertificates : get("default")).join("\n"));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
