import { chmodSync, closeSync, openSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { Server, Socket } from "node:net";
import { join } from "node:path";
import { privateModes } from "./file-modes.ts";

/**
 * Unix sockets that show that a process runs: they end with it, however it ends. They work across containers that share
 * the directory, where process ids mean nothing.
 */

/** Listens on a socket in the directory. It does not keep the process alive. By default it hangs up on who connects. */
export async function listenIn(
  dir: string,
  name: string,
  onSocket: (socket: Socket) => void = (socket) => {
    socket.destroy();
  },
): Promise<Server> {
  const { path, close } = socketPath(dir, name);
  try {
    return await new Promise((resolve, reject) => {
      const server = createServer(onSocket);
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
  const socket = await connectIn(dir, name);
  socket?.destroy();
  return socket !== undefined;
}

/** Connects to the process that listens on the socket; undefined if none does. Rejects if that cannot be told. */
export async function connectIn(dir: string, name: string): Promise<Socket | undefined> {
  const { path, close } = socketPath(dir, name);
  try {
    return await new Promise((resolve, reject) => {
      const socket = connect(path);
      const failed = (error: NodeJS.ErrnoException): void => {
        socket.destroy();
        if (goneCodes.includes(error.code)) resolve(undefined);
        else reject(error);
      };
      socket.once("error", failed);
      socket.once("connect", () => {
        socket.off("error", failed);
        socket.on("error", () => undefined);
        resolve(socket);
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
