import { constants, openSync } from "node:fs";
import { open, stat } from "node:fs/promises";
import { Socket } from "node:net";
import { reasonOf, sleep } from "../async/signals.ts";
import { fileError, systemCode } from "./failure.ts";

/** What is written to from the beginning on, without a way back. */
export interface Device {
  write(data: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** How often a pipe is looked at for a reader, in milliseconds: the system has no event for it. */
const readerPollMs = 50;

/** Opens a device, or a named pipe once somebody reads it. */
export async function openDevice(path: string, signal: AbortSignal): Promise<Device> {
  try {
    return (await stat(path)).isFIFO() ? await openPipe(path, signal) : await openPlain(path);
  } catch (error) {
    signal.throwIfAborted();
    throw fileError(path, "written", error);
  }
}

async function openPlain(path: string): Promise<Device> {
  const file = await open(path, "w");
  return {
    write: async (data) => {
      for (let done = 0; done < data.byteLength;) {
        const { bytesWritten } = await file.write(data, done).catch((error: unknown) => {
          throw fileError(path, "written", error);
        });
        done += bytesWritten;
      }
    },
    close: () => file.close(),
  };
}

/**
 * The waits for a reader and for room in the pipe end with the signal. Node's calls for files would block a thread
 * instead, and the process ends only with its threads.
 */
async function openPipe(path: string, signal: AbortSignal): Promise<Device> {
  const socket = new Socket({ fd: await openForWriting(path, signal), readable: false, writable: true, signal });
  // A write reports it.
  socket.on("error", () => undefined);
  const closed = new Promise<void>((resolve) => {
    socket.once("close", () => {
      resolve();
    });
  });
  return {
    write: (data) =>
      new Promise((resolve, reject) => {
        socket.write(data, (error) => {
          if (error == null) resolve();
          else reject(signal.aborted ? reasonOf(signal) : fileError(path, "written", error));
        });
      }),
    close: () => {
      socket.destroy();
      return closed;
    },
  };
}

async function openForWriting(path: string, signal: AbortSignal): Promise<number> {
  for (;;) {
    try {
      return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch (error) {
      // Nobody reads it.
      if (systemCode(error) !== "ENXIO") throw error;
      await sleep(readerPollMs, signal);
    }
  }
}
