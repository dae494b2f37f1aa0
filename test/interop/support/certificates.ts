import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { tlsFiles } from "../../support/http3.ts";

/** Paths of the tests' certificates, which other programs read from files. */
export interface CertificateFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** Writes them before the tests of a file, and removes them after. */
export function useCertificateFiles(): CertificateFiles {
  let dir = "";
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "sluice-tls-"));
    await Promise.all(
      (["ca", "cert", "key"] as const).map((name) => writeFile(join(dir, `${name}.pem`), tlsFiles[name])),
    );
  });
  afterAll(() => rm(dir, { recursive: true, force: true }));
  return {
    get ca() {
      return join(dir, "ca.pem");
    },
    get cert() {
      return join(dir, "cert.pem");
    },
    get key() {
      return join(dir, "key.pem");
    },
  };
}
