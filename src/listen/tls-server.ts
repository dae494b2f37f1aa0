import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { createSecureContext, createServer } from "node:tls";
import type { Server, TLSSocket, TlsOptions } from "node:tls";
import { raise } from "../async/guard.ts";
import type { OnUnexpected } from "../async/guard.ts";
import { DomainError } from "../errors.ts";
import type { Connections } from "./connections.ts";
import { ofSocket } from "./guarded-socket.ts";
import type { HttpServers } from "./http-servers.ts";
import type { TlsIdentity } from "./tls-files.ts";

export interface TlsServerOptions {
  /** Milliseconds for the handshake. */
  readonly headerTimeout: number;
  readonly onUnexpected?: OnUnexpected;
}

/** A TLS server that does not listen: it is given connections, and a new certificate. */
export interface TlsServer {
  serve(socket: Socket): void;
  /** From now on, handshakes get this certificate. Fails with "config", and changes nothing, if it cannot be used. */
  setTls(tls: TlsIdentity): void;
}

const minVersion = "TLSv1.2";

/** Its handshake tells HTTP/2 from HTTP/1.1 (ALPN). Fails with "config" if the certificate cannot be used. */
export function createTlsServer(
  { http1, http2 }: HttpServers,
  connections: Connections,
  { headerTimeout, onUnexpected = raise }: TlsServerOptions,
  tls: TlsIdentity,
): TlsServer {
  checkTls(tls);
  const server: Server = createServer(
    {
      ...nodeTls(tls),
      ALPNProtocols: ["h2", "http/1.1"],
      minVersion,
      handshakeTimeout: headerTimeout,
    },
    ofSocket(onUnexpected, (socket: TLSSocket) => {
      socket.on("error", () => undefined);
      connections.manage(socket);
      (socket.alpnProtocol === "h2" ? http2 : http1).emit("connection", socket);
    }),
  );
  server.on("tlsClientError", (_error, socket: Socket) => {
    connections.expel(socket, "handshake");
  });
  return {
    serve(socket) {
      server.emit("connection", socket);
    },
    setTls(fresh) {
      checkTls(fresh);
      server.setSecureContext({ ...nodeTls(fresh), minVersion });
    },
  };
}

/** In Node's words. */
function nodeTls({ cert, key, clientCa }: TlsIdentity): TlsOptions {
  return {
    cert,
    key,
    ...(clientCa === undefined ? {} : { ca: clientCa, requestCert: true, rejectUnauthorized: true }),
  };
}

function checkTls({ cert, key, clientCa }: TlsIdentity): void {
  try {
    createSecureContext({ cert, key, minVersion });
  } catch (cause) {
    const detail = `the certificate or its key cannot be used (${messageOf(cause)}): --tls-cert and --tls-key must be PEM files that belong together`;
    throw new DomainError({ kind: "config", detail }, { cause });
  }
  try {
    // Node takes a file without a certificate for no CA, and then refuses every client.
    if (clientCa !== undefined) new X509Certificate(clientCa);
  } catch (cause) {
    const detail = `--tls-client-ca must be a PEM file with certificates (${messageOf(cause)})`;
    throw new DomainError({ kind: "config", detail }, { cause });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
