import { chmodSync, closeSync, openSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { Server } from "node:net";
import { join } from "node:path";
import { privateModes } from "./file-modes.ts";

/**
 * Unix sockets that show that a process runs: they end with it, however it ends. They work across containers that share
 * the directory, where process ids mean nothing.
 */

/** Listens on a socket in the directory. It does not keep the process alive. */
export async function listenIn(dir: string, name: string): Promise<Server> {
  const { path, close } = socketPath(dir, name);
  try {
    return await new Promise((resolve, reject) => {
      const server = createServer((socket) => {
        socket.destroy();
      });
      server.once("error", reject);
      server.listen(path, () => {
        try {
          // Connecting needs no more than the owner's own rights; a system without modes for sockets does without.
          chmodSync(path, privateModes.file);
        } catch {
          // In a directory of mode 0700 nobody else reaches it anyway.
        }
        server.unref();
        resolve(server);
      });
    });
  } finally {
    close();
  }
}

/** How a connection attempt fails when nobody listens: the process has ended, or its socket is gone. */
const goneCodes: readonly unknown[] = ["ENOENT", "ECONNREFUSED"];

/** Whether a process listens on the socket. Rejects if that cannot be told. */
export async function isAnswered(dir: string, name: string): Promise<boolean> {
  const { path, close } = socketPath(dir, name);
  try {
    return await new Promise((resolve, reject) => {
      const socket = connect(path);
      socket.once("connect", () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", (error: NodeJS.ErrnoException) => {
        socket.destroy();
        if (goneCodes.includes(error.code)) resolve(false);
        else reject(error);
      });
    });
  } finally {
    close();
  }
}

/** The longest path of a Unix socket, less the final zero (`sun_path` in unix(7)). */
const maxSocketPath = 107;

/** A path that is too long for a socket is reached through the directory's descriptor. */
function socketPath(dir: string, name: string): { readonly path: string; readonly close: () => void } {
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
