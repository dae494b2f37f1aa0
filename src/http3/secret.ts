import { randomBytes } from "node:crypto";
import { link, open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { DomainError } from "../errors.ts";

/** In the data directory. */
const fileName = "http3.secret";

const secretBytes = 32;

/**
 * The secret of a data directory, made when it is read first. What is derived
 * from it lets a server that was killed and started again tell the clients of its
 * connections from before that these are gone (RFC 9000, section 10.3): without
 * it they wait for the idle timeout. Who knows it can end connections, and read
 * nothing.
 *
 * Fails with "store-unreadable" if the file cannot be read or made, or is not
 * what was written.
 */
export async function readHttp3Secret(dir: string): Promise<Buffer> {
  const path = join(dir, fileName);
  try {
    const secret = (await read(path)) ?? (await make(path));
    if (secret.byteLength === secretBytes) return secret;
  } catch (cause) {
    const detail = `${fileName}: ${cause instanceof Error ? cause.message : String(cause)}`;
    throw new DomainError({ kind: "store-unreadable", dir, detail }, { cause });
  }
  const detail = `${fileName} does not have ${secretBytes} bytes: remove it, and the next start makes another`;
  throw new DomainError({ kind: "store-unreadable", dir, detail });
}

async function read(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** A crash leaves the whole file or none: it gets its name when it is on the disk. */
async function make(path: string): Promise<Buffer> {
  const temporary = `${path}.${randomBytes(8).toString("hex")}`;
  const secret = randomBytes(secretBytes);
  const file = await open(temporary, "wx", 0o600);
  try {
    await file.writeFile(secret);
    await file.sync();
  } finally {
    await file.close();
  }
  try {
    await link(temporary, path);
    return secret;
  } catch (error) {
    // Another process was faster, and its secret is the one.
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return await readFile(path);
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
}
