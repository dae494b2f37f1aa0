import { SignJWT, exportJWK, generateKeyPair } from "jose";
import type { JWK } from "jose";
import { once } from "node:events";
import { createServer } from "node:http";
import type { ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

/** A pair of keys that signs tokens. */
export interface Signer {
  /** The public key, as a JWKS has it. */
  readonly jwk: JWK;
  /** The private key, as no JWKS may have it. */
  readonly privateJwk: JWK;
  /** A token for Ada that ends in an hour, unless the claims say otherwise. */
  sign(claims?: Readonly<Record<string, unknown>>, header?: { readonly kid?: string }): Promise<string>;
}

export async function createSigner(kid: string, alg = "ES256"): Promise<Signer> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  return {
    jwk: { ...(await exportJWK(publicKey)), kid, alg, use: "sig" },
    privateJwk: { ...(await exportJWK(privateKey)), kid, alg },
    sign(claims = {}, header = { kid }) {
      const payload = { sub: "ada", scope: "greet", exp: Math.floor(Date.now() / 1000) + 3600, ...claims };
      return new SignJWT(payload).setProtectedHeader({ alg, ...header }).sign(privateKey);
    },
  };
}

/** A server of a JWKS, on loopback. */
export interface JwksServer {
  readonly url: string;
  /** How often it has been asked. */
  readonly requests: number;
  /** From now on it answers with these keys. */
  publish(...keys: JWK[]): void;
  /** From now on it answers so. */
  answer(respond: (res: ServerResponse) => void): void;
  /** From now on nobody listens. */
  stop(): Promise<void>;
}

/** Closed at the end of the test. */
export async function startJwksServer(...keys: JWK[]): Promise<JwksServer> {
  const json = (list: JWK[]) => (res: ServerResponse) => {
    res.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ keys: list }));
  };
  let respond = json(keys);
  let requests = 0;
  const server = createServer((_req, res) => {
    requests++;
    respond(res);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const stop = async (): Promise<void> => {
    if (!server.listening) return;
    server.close();
    server.closeAllConnections();
    await once(server, "close");
  };
  onTestFinished(stop);
  return {
    url: `http://127.0.0.1:${port}/jwks.json`,
    get requests() {
      return requests;
    },
    publish(...list) {
      respond = json(list);
    },
    answer(how) {
      respond = how;
    },
    stop,
  };
}
