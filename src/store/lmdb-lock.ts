import { randomUUID } from "node:crypto";
import { chmodSync, closeSync, openSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { Server } from "node:net";
import { join } from "node:path";
import { DomainError } from "../errors.ts";
import { privateModes } from "../file-modes.ts";
import type { Tables } from "./lmdb-env.ts";

/**
 * Makes this process the only one that uses the store.
 *
 * LMDB lets several processes write, but our commits decide on what they have
 * read before. The owner listens on a Unix socket in the directory, which ends
 * with its process, however that ends; it works across containers that share
 * the directory, where process ids mean nothing. Who finds no answer replaces the
 * owner in a transaction, so that of two only one succeeds.
 */
export async function lockStore(dir: string, { root, meta }: Tables): Promise<() => void> {
  const nonce = randomUUID().slice(0, 8);
  const path = socketPath(dir, nonce);
  const server = await listenOn(dir, path);
  const release = (): void => {
    server.close();
    rmSync(join(dir, `owner-${nonce}.sock`), { force: true });
  };
  try {
    for (;;) {
      const owner = meta.get("owner") as { nonce: string; pid: number } | undefined;
      if (owner !== undefined) {
        if (await answers(dir, owner.nonce)) {
          throw new DomainError({ kind: "store-locked", dir, detail: `process ${owner.pid} has it` });
        }
      }
      const won = root.transactionSync(() => {
        const now = meta.get("owner") as { nonce: string } | undefined;
        if (now?.nonce !== owner?.nonce) return false;
        meta.putSync("owner", { nonce, pid: process.pid });
        return true;
      });
      if (!won) continue;
      if (owner !== undefined) rmSync(join(dir, `owner-${owner.nonce}.sock`), { force: true });
      return release;
    }
  } catch (error) {
    release();
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
      reject(new DomainError({ kind: "store-unreadable", dir, detail: `no lock: ${cause.message}` }, { cause }));
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

function answers(dir: string, nonce: string): Promise<boolean> {
  const { path, close } = socketPath(dir, nonce);
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (alive: boolean) => () => {
      close();
      socket.destroy();
      resolve(alive);
    };
    socket.once("connect", done(true));
    // Nobody listens, or the socket is gone: its owner has ended.
    socket.once("error", done(false));
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
