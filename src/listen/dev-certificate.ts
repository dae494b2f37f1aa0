import { randomBytes, webcrypto } from "node:crypto";
import { isIP } from "node:net";
// @peculiar/x509 needs this polyfill, loaded before it.
import "reflect-metadata";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";

export interface DevCertificateOptions {
  /** Names and addresses that the certificate is for. */
  readonly hosts: readonly string[];
  /** How long both certificates are valid. */
  readonly days: number;
  readonly now?: () => Date;
}

/** PEM texts. */
export interface DevCertificates {
  readonly ca: string;
  readonly caKey: string;
  readonly cert: string;
  readonly key: string;
}

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const dayMs = 86_400_000;
/** Clocks of test machines differ a little. */
const skewMs = 300_000;

/** Makes a CA and, signed by it, a server certificate (RFC 5280), for development. */
export async function createDevCertificates(options: DevCertificateOptions): Promise<DevCertificates> {
  const now = (options.now?.() ?? new Date()).getTime();
  const validity = { notBefore: new Date(now - skewMs), notAfter: new Date(now + options.days * dayMs) };
  const caKeys = await generateKeys();
  const ca = await X509CertificateGenerator.createSelfSigned(
    {
      ...validity,
      serialNumber: serialNumber(),
      name: "CN=Sluice development CA",
      keys: caKeys,
      signingAlgorithm: algorithm,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(caKeys.publicKey, false, webcrypto as Crypto),
      ],
    },
    webcrypto as Crypto,
  );
  const keys = await generateKeys();
  const cert = await X509CertificateGenerator.create(
    {
      ...validity,
      serialNumber: serialNumber(),
      subject: "CN=Sluice development server",
      issuer: ca.subject,
      publicKey: keys.publicKey,
      signingKey: caKeys.privateKey,
      signingAlgorithm: algorithm,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
        new SubjectAlternativeNameExtension(
          options.hosts.map((host) => ({ type: isIP(host) === 0 ? ("dns" as const) : ("ip" as const), value: host })),
        ),
        await SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto as Crypto),
        await AuthorityKeyIdentifierExtension.create(caKeys.publicKey, false, webcrypto as Crypto),
      ],
    },
    webcrypto as Crypto,
  );
  return {
    ca: `${ca.toString("pem")}\n`,
    caKey: await privateKeyPem(caKeys.privateKey),
    cert: `${cert.toString("pem")}\n`,
    key: await privateKeyPem(keys.privateKey),
  };
}

async function generateKeys(): Promise<CryptoKeyPair> {
  return (await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as CryptoKeyPair;
}

async function privateKeyPem(key: CryptoKey): Promise<string> {
  return `${PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY")}\n`;
}

/** 127 random bits: positive, and unlikely to repeat (RFC 5280, section 4.1.2.2). */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0] ?? 0) & 0x7f;
  return bytes.toString("hex");
}
