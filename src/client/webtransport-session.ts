import { Code, ConnectError } from "@connectrpc/connect";
import { raceSignal } from "../async/signals.ts";
import { encodeHead } from "../wire/webtransport-head.ts";
import type { TokenSource } from "./token-interceptor.ts";

export interface SessionOptions {
  /** Where the server takes sessions, such as `https://sluice.example.com/webtransport`. */
  readonly url: string;
  /** Goes in the session's first message, because a page cannot set headers of a session. */
  readonly token: TokenSource | undefined;
  /**
   * SHA-256 of certificates to accept instead of those that the browser trusts,
   * as `sluice cert --webtransport` prints them. Such a certificate must be of
   * ECDSA P-256, and valid for 14 days at most.
   */
  readonly serverCertificateHashes: readonly Uint8Array<ArrayBuffer>[] | undefined;
  /** Milliseconds. */
  readonly connectTimeoutMs: number;
}

/** A session that can be used, or could be until it closed. */
export interface OpenSession {
  readonly transport: WebTransport;
  /** Resolves when the server has found the token good. Fails with what the session ended with. */
  readonly admitted: Promise<void>;
  /** Why the session is over. */
  readonly closed: Promise<ConnectError>;
}

/** The session with a server: opened when it is needed, and again when it was lost or the server asks for that. */
export class Sessions {
  readonly #options: SessionOptions;
  readonly #closing = new AbortController();
  #current: Promise<OpenSession> | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  /** The open session, or a new one; all that ask at once wait for the same. Fails with UNAVAILABLE. */
  get(): Promise<OpenSession> {
    if (this.#closing.signal.aborted) return Promise.reject(wasClosed());
    if (this.#current !== undefined) return this.#current;
    const opening = this.#open();
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
    this.#current
      ?.then(({ transport }) => {
        transport.close();
      })
      .catch(ignore);
  }

  async #open(): Promise<OpenSession> {
    const { url, token, serverCertificateHashes, connectTimeoutMs } = this.#options;
    const limit = AbortSignal.timeout(connectTimeoutMs);
    const transport = new WebTransport(url, {
      ...(serverCertificateHashes === undefined
        ? {}
        : { serverCertificateHashes: serverCertificateHashes.map((value) => ({ algorithm: "sha-256", value })) }),
    });
    const closed = transport.closed.then(
      ({ closeCode = 0, reason = "" }) => errorOfClose(closeCode, reason),
      (error: unknown) => new ConnectError(`the session was lost: ${messageOf(error)}`, Code.Unavailable),
    );
    try {
      const ready = transport.ready as Promise<unknown>;
      await raceSignal(raceSignal(ready, limit), this.#closing.signal);
      const admitted = this.#begin(transport, closed, typeof token === "function" ? await token() : token);
      // Whoever asks for it is told; calls are told by their own streams.
      admitted.catch(ignore);
      return { transport, closed, admitted };
    } catch (error) {
      transport.close();
      if (this.#closing.signal.aborted) throw wasClosed();
      throw new ConnectError(`no WebTransport session with ${url}: ${messageOf(error)}`, Code.Unavailable);
    }
  }

  async #begin(transport: WebTransport, closed: Promise<ConnectError>, token: string | undefined): Promise<void> {
    const header = new Headers(token === undefined ? {} : { authorization: `Bearer ${token}` });
    try {
      const stream = await transport.createBidirectionalStream();
      const writer = (stream.writable as WritableStream<Uint8Array>).getWriter();
      await Promise.all([writer.write(encodeHead({ kind: "opening", header })), writer.close()]);
      const reader = (stream.readable as ReadableStream<Uint8Array>).getReader();
      // Its end says that the server is content.
      while (!(await reader.read()).done);
    } catch {
      throw await closed;
    }
  }
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
