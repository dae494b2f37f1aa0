import { randomUUID } from "node:crypto";
import { chmodSync, closeSync, openSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { Server } from "node:net";
import { join } from "node:path";
import { DomainError } from "../errors.ts";
import { privateModes } from "../file-modes.ts";
import { lacksSpace } from "./disk-space.ts";
import type { Tables } from "./lmdb-env.ts";

/** What the owner of a store holds. */
export interface Ownership {
  /** A key of the meta table that is there once another process has replaced this one. */
  readonly lostKey: string;
  /** Lets another process have the store at once. */
  release(this: void): void;
}

type Owner = { readonly nonce: string; readonly pid: number } | undefined;

function lostKeyOf(nonce: string): string {
  return `lost/${nonce}`;
}

/**
 * Makes this process the only one that uses the store.
 *
 * LMDB lets several processes write, but our commits decide on what they have
 * read before. The owner listens on a Unix socket in the directory, which ends
 * with its process, however that ends; it works across containers that share
 * the directory, where process ids mean nothing. A process that finds no answer
 * replaces the owner in a transaction, so that of two only one succeeds.
 *
 * No answer does not prove that the owner has ended: its socket may have been
 * removed, or be on another host. The new owner therefore writes a key with the
 * nonce of the old one, whose commits succeed only while that key is absent.
 */
export async function lockStore(dir: string, { root, meta }: Tables): Promise<Ownership> {
  const nonce = randomUUID().slice(0, 8);
  const path = socketPath(dir, nonce);
  const server = await listenOn(dir, path);
  const ownerNow = (): Owner => meta.get("owner") as Owner;
  const close = (): void => {
    server.close();
    rmSync(join(dir, `owner-${nonce}.sock`), { force: true });
  };
  try {
    for (;;) {
      const owner = ownerNow();
      if (owner !== undefined) await requireGone(dir, owner);
      const won = root.transactionSync(() => {
        if (ownerNow()?.nonce !== owner?.nonce) return false;
        meta.putSync("owner", { nonce, pid: process.pid });
        if (owner !== undefined) meta.putSync(lostKeyOf(owner.nonce), true);
        return true;
      });
      if (!won) continue;
      if (owner !== undefined) rmSync(join(dir, `owner-${owner.nonce}.sock`), { force: true });
      return {
        lostKey: lostKeyOf(nonce),
        release() {
          try {
            root.transactionSync(() => {
              if (ownerNow()?.nonce === nonce) meta.removeSync("owner");
            });
          } catch {
            // A store that cannot be written is left as after a crash.
          }
          close();
        },
      };
    }
  } catch (error) {
    close();
    throw error;
  }
}

function listenOn(dir: string, { path, close }: SocketPath): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      socket.destroy();
    });
    server.once("error", (cause) => {
      close();
      const detail = `no lock: ${cause.message}`;
      const problem = lacksSpace(cause)
        ? ({ kind: "store-full", detail: `${detail}: free some space on the disk of ${dir}` } as const)
        : ({ kind: "store-unreadable", dir, detail } as const);
      reject(new DomainError(problem, { cause }));
    });
    server.listen(path, () => {
      try {
        // Connecting needs no more than the owner's own rights; a system without modes for sockets does without.
        chmodSync(path, privateModes.file);
      } catch {
        // In a directory of mode 0700 nobody else reaches it anyway.
      }
      close();
      server.unref();
      resolve(server);
    });
  });
}

/** How a connection attempt fails when nobody listens: the process has ended, or its socket is gone. */
const goneCodes: readonly unknown[] = ["ENOENT", "ECONNREFUSED"];

/** Fails with "store-locked" if the owner answers, or if it cannot be told whether it does. */
function requireGone(dir: string, { nonce, pid }: NonNullable<Owner>): Promise<void> {
  const { path, close } = socketPath(dir, nonce);
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const done = (): void => {
      close();
      socket.destroy();
    };
    socket.once("connect", () => {
      done();
      reject(new DomainError({ kind: "store-locked", dir, detail: `process ${pid} has it` }));
    });
    socket.once("error", (cause: NodeJS.ErrnoException) => {
      done();
      if (goneCodes.includes(cause.code)) {
        resolve();
        return;
      }
      const detail = `whether process ${pid} still has it cannot be told: ${cause.message}`;
      reject(new DomainError({ kind: "store-locked", dir, detail }, { cause }));
    });
  });
}

interface SocketPath {
  readonly path: string;
  readonly close: () => void;
}

/** The longest path of a Unix socket, less the final zero (`sun_path` in unix(7)). */
const maxSocketPath = 107;

/** The owner's socket. A path that is too long for one is reached through the directory's descriptor. */
function socketPath(dir: string, nonce: string): SocketPath {
  const name = `owner-${nonce}.sock`;
  const path = join(dir, name);
  if (Buffer.byteLength(path) <= maxSocketPath || process.platform !== "linux") {
    return { path, close: () => undefined };
  }
  const descriptor = openSync(dir, "r");
  return {
    path: `/proc/self/fd/${descriptor}/${name}`,
    close: () => {
      closeSync(descriptor);
    },
  };
}
