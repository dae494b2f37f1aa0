import type { Command } from "commander";
import { X509Certificate, createHash } from "node:crypto";
import { mkdir, open, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { CliError, fileError } from "../failure.ts";
import { withSession } from "../session.ts";
import type { Session } from "../session.ts";
import { parseCount } from "../values.ts";

export function cert(program: Command): void {
  const command = program
    .command("cert")
    .description("make a CA and a certificate for development")
    .option("--out <dir>", "where to write ca.pem, ca-key.pem, cert.pem and key.pem", ".")
    .option("--host <name...>", "names and addresses that the certificate is for", ["localhost", "127.0.0.1", "::1"])
    .option("--days <n>", "how long it is valid", "90")
    .option("--force", "overwrite files that are there")
    .addHelpText(
      "after",
      `
The SHA-256 is what a page gives to WebTransport as serverCertificateHashes, to
accept the certificate without the CA. Browsers do so for at most 14 days.

Keep ca-key.pem and key.pem to yourself: who has the first can pose as any server
to a client that trusts ca.pem.

Examples:
  $ sluice cert
  $ sluice cert --out certs --host dev.example.com 10.0.0.7 --days 30
  $ sluice cert --days 13`,
    );
  withSession(command, run);
}

async function run({ out, flags }: Session): Promise<void> {
  const dir = String(flags["out"]);
  const days = parseCount("--days", flags["days"], { min: 1, max: 3650 }) ?? 90;
  const hosts = (flags["host"] as unknown as string[]).map((host) => host.replace(/^\[(.*)\]$/, "$1"));
  for (const host of hosts) {
    if (!/^[\w.:*-]{1,253}$/.test(host)) {
      throw new CliError("usage", `--host must be a host name or an address, not "${host}"`);
    }
  }
  const path = (name: string): string => join(dir, name);
  const files = { ca: path("ca.pem"), caKey: path("ca-key.pem"), cert: path("cert.pem"), key: path("key.pem") };
  if (flags["force"] !== true) await refuseExisting(Object.values(files));
  // Loaded here, because the other commands start faster without it.
  const { createDevCertificates } = await import("../../listen/dev-certificate.ts");
  const pems = await createDevCertificates({ hosts, days });
  await mkdir(dir, { recursive: true }).catch((error: unknown) => {
    throw fileError(dir, "written", error);
  });
  await write(files.ca, pems.ca, 0o644);
  await write(files.caKey, pems.caKey, 0o600);
  await write(files.cert, pems.cert, 0o644);
  await write(files.key, pems.key, 0o600);
  const sha256 = createHash("sha256").update(new X509Certificate(pems.cert).raw).digest("hex");
  await out.result(
    `wrote ${Object.values(files).join(", ")}: for ${hosts.join(", ")}, valid for ${days} days
SHA-256 of ${files.cert}: ${sha256}

Next:
  sluice serve --tls-cert ${files.cert} --tls-key ${files.key}
  sluice greet Ada --url https://${hosts[0]?.includes(":") === true ? `[${hosts[0]}]` : hosts[0]}:8080 --ca ${files.ca}`,
    { ...files, hosts, days, sha256 },
  );
}

async function refuseExisting(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    const exists = await stat(path).then(
      () => true,
      () => false,
    );
    if (exists) {
      throw new CliError("conflict", `${path} exists already: give --force to overwrite it, or another --out`);
    }
  }
}

/** Whole or not at all, and never readable by others for a moment. */
async function write(path: string, text: string, mode: number): Promise<void> {
  const draft = `${path}.${process.pid}.tmp`;
  try {
    const file = await open(draft, "wx", mode);
    try {
      await file.writeFile(text);
    } finally {
      await file.close();
    }
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true });
    throw fileError(path, "written", error);
  }
}
