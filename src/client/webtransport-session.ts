import { Code, ConnectError } from "@connectrpc/connect";
import { errorFromJsonBytes } from "@connectrpc/connect/protocol-connect";
import { raceSignal } from "../async/signals.ts";
import { HeadReader, encodeHead } from "../wire/webtransport-head.ts";
import type { StreamHead } from "../wire/webtransport-head.ts";
import type { TokenSource } from "./token-interceptor.ts";
import { Datagrams } from "./webtransport-datagrams.ts";

/** SHA-256 of a certificate, in hexadecimal or as it is. */
export type CertificateHash = string | Uint8Array<ArrayBuffer>;

export interface SessionOptions {
  /** Where the server takes sessions, such as `https://sluice.example.com/webtransport`. */
  readonly url: string;
  /** Goes in the session's first message, because a page cannot set headers of a session. */
  readonly token: TokenSource | undefined;
  /**
   * SHA-256 of certificates to accept instead of those that the browser trusts,
   * in hexadecimal as `sluice cert` prints them, or as bytes. Such a certificate
   * must be of ECDSA P-256, and valid for 14 days at most.
   */
  readonly serverCertificateHashes: readonly CertificateHash[] | undefined;
  /** Milliseconds. */
  readonly connectTimeoutMs: number;
}

/** A session that can be used, or could be until it closed. */
export interface OpenSession {
  /** The browser's own. */
  readonly transport: WebTransport;
  /** Resolves when the server has found the token good. Fails with what the session ended with. */
  readonly admitted: Promise<void>;
  /** Why the session is over. */
  readonly closed: Promise<ConnectError>;
  /** Messages that may get lost, arrive in another order, and are never sent again. */
  readonly datagrams: Datagrams;
}

/** Bytes of the answer to the first message. */
const maxAnswerBytes = 64 * 1024;

/** The session with a server: opened when it is needed, and again when it was lost or the server asks for that. */
export class Sessions {
  readonly #options: SessionOptions;
  readonly #closing = new AbortController();
  /** Also those that take no more calls. */
  readonly #open = new Set<WebTransport>();
  #current: Promise<OpenSession> | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  /** The open session, or a new one; all that ask at once wait for the same. Fails with UNAVAILABLE. */
  get(): Promise<OpenSession> {
    if (this.#closing.signal.aborted) return Promise.reject(wasClosed());
    if (this.#current !== undefined) return this.#current;
    const opening = this.#begin();
    this.#current = opening;
    opening.then(
      ({ transport, closed }) => {
        closed.then(() => {
          this.leave(opening);
        }, ignore);
        // Not every browser has it.
        (transport as { draining?: Promise<unknown> }).draining?.then(() => {
          this.leave(opening);
        }, ignore);
      },
      () => {
        this.leave(opening);
      },
    );
    return opening;
  }

  /** The next call gets another session. The calls on this one go on. */
  leave(session: Promise<OpenSession>): void {
    if (this.#current === session) this.#current = undefined;
  }

  /** Ends every call on the session. */
  close(): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(wasClosed());
    for (const transport of this.#open) transport.close();
  }

  async #begin(): Promise<OpenSession> {
    const { url, token, serverCertificateHashes, connectTimeoutMs } = this.#options;
    const limit = AbortSignal.timeout(connectTimeoutMs);
    const transport = new WebTransport(url, {
      ...(serverCertificateHashes === undefined
        ? {}
        : { serverCertificateHashes: serverCertificateHashes.map(toHash) }),
    });
    this.#open.add(transport);
    transport.closed.catch(ignore).finally(() => this.#open.delete(transport));
    const refused = Promise.withResolvers<ConnectError>();
    const ended = transport.closed.then(
      ({ closeCode = 0, reason = "" }) => errorOfClose(closeCode, reason),
      (error: unknown) => new ConnectError(`the session was lost: ${messageOf(error)}`, Code.Unavailable),
    );
    const closed = Promise.race([refused.promise, ended]);
    try {
      const ready = transport.ready as Promise<unknown>;
      await raceSignal(raceSignal(ready, limit), this.#closing.signal);
      const admitted = begin(transport, typeof token === "function" ? await token() : token).catch(
        async (error: unknown) => {
          if (!(error instanceof ConnectError)) throw await closed;
          refused.resolve(error);
          transport.close();
          throw error;
        },
      );
      // Whoever asks for it is told; calls are told by their own streams.
      admitted.catch(ignore);
      return { transport, closed, admitted, datagrams: new Datagrams(transport.datagrams) };
    } catch (error) {
      transport.close();
      if (this.#closing.signal.aborted) throw wasClosed();
      throw new ConnectError(`no WebTransport session with ${url}: ${messageOf(error)}`, Code.Unavailable);
    }
  }
}

/** Sends the first message. Fails with a ConnectError if the server says that it is not content. */
async function begin(transport: WebTransport, token: string | undefined): Promise<void> {
  const header = new Headers(token === undefined ? {} : { authorization: `Bearer ${token}` });
  const stream = await transport.createBidirectionalStream();
  const writer = (stream.writable as WritableStream<Uint8Array>).getWriter();
  await Promise.all([writer.write(encodeHead({ kind: "opening", header })), writer.close()]);
  const reader = (stream.readable as ReadableStream<Uint8Array>).getReader();
  const answer = new HeadReader(maxAnswerBytes);
  let head: StreamHead | undefined;
  const body: number[] = [];
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    const found = head === undefined ? answer.push(next.value) : { head, rest: next.value };
    if (found === undefined) continue;
    head = found.head;
    body.push(...found.rest);
  }
  if (head?.kind !== "response") throw new ConnectError("protocol error: the session was not answered", Code.Internal);
  if (head.status === 200) return;
  const fallback = new ConnectError(`the server refuses the session: ${head.status}`, Code.Unknown);
  throw errorFromJsonBytes(Uint8Array.from(body), undefined, fallback);
}

function toHash(hash: CertificateHash): WebTransportHash {
  const value = typeof hash === "string" ? fromHex(hash.replaceAll(":", "")) : hash;
  return { algorithm: "sha-256", value };
}

function fromHex(text: string): Uint8Array<ArrayBuffer> {
  if (!/^[0-9a-f]{64}$/i.test(text)) throw new TypeError(`not a SHA-256 in hexadecimal: "${text}"`);
  return Uint8Array.from(text.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

/** Codes of sessions are Connect's; others, and none, come from elsewhere. */
function errorOfClose(closeCode: number, reason: string): ConnectError {
  const codes: readonly (string | Code)[] = Object.values(Code);
  const code = codes.find((known) => typeof known === "number" && closeCode === (known as number));
  return new ConnectError(
    reason === "" ? "the session was closed" : reason,
    typeof code === "number" ? code : Code.Unavailable,
  );
}

function wasClosed(): ConnectError {
  return new ConnectError("the client was closed", Code.Canceled);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function ignore(): void {
  // Told elsewhere.
}
