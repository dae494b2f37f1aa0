import { readFile } from "node:fs/promises";
import { DomainError } from "../errors.ts";

export interface TlsPaths {
  readonly tlsCert: string | undefined;
  readonly tlsKey: string | undefined;
  readonly tlsClientCa: string | undefined;
}

/** PEM. */
export interface TlsIdentity {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  /** With it a client must present a certificate that one of these CAs has signed. */
  readonly clientCa?: string | Buffer;
}

/** Reads the certificate and its key; undefined if there are none. Fails with "config" if they cannot be read. */
export async function readTlsFiles({ tlsCert, tlsKey, tlsClientCa }: TlsPaths): Promise<TlsIdentity | undefined> {
  if (tlsCert === undefined || tlsKey === undefined) return undefined;
  const [cert, key] = await Promise.all([readPem("--tls-cert", tlsCert), readPem("--tls-key", tlsKey)]);
  if (tlsClientCa === undefined) return { cert, key };
  return { cert, key, clientCa: await readPem("--tls-client-ca", tlsClientCa) };
}

async function readPem(flag: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    const detail = `${flag} ${path} cannot be read (${cause instanceof Error ? cause.message : String(cause)}); \`sluice cert\` makes one for development`;
    throw new DomainError({ kind: "config", detail }, { cause });
  }
}
