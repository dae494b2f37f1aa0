import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createDevCertificates } from "../src/listen/dev-certificate.ts";
import { buildDir } from "./contenders.ts";

/** Paths of PEM files. */
export interface CertificateFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly remove: () => Promise<void>;
}

/** Certificates of one run, for the servers and for the client that trusts them. */
export async function writeCertificates(host: string): Promise<CertificateFiles> {
  await mkdir(buildDir, { recursive: true });
  const dir = await mkdtemp(join(buildDir, "certificates-"));
  const made = await createDevCertificates({ hosts: [host], days: 2 });
  const paths = { ca: join(dir, "ca.pem"), cert: join(dir, "cert.pem"), key: join(dir, "key.pem") };
  await Promise.all([
    writeFile(paths.ca, made.ca),
    writeFile(paths.cert, made.cert),
    writeFile(paths.key, made.key, { mode: 0o600 }),
  ]);
  return { ...paths, remove: () => rm(dir, { recursive: true, force: true }) };
}
