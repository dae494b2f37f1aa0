import { randomUUID } from "node:crypto";
import { readdirSync, rmSync } from "node:fs";
import type { Server, Socket } from "node:net";
import { join } from "node:path";
import { sleep } from "../async/signals.ts";
import { toError } from "../async/to-error.ts";
import { DomainError } from "../errors.ts";
import { connectIn, listenIn } from "../process-sockets.ts";
import { lacksSpace } from "./disk-space.ts";

/** How long others may take to open the file, in milliseconds. */
const patienceMs = 10_000;
/** Between two looks at whether they have, and before another attempt, at most, in milliseconds. */
const pauseMs = 50;
/** Of a greeting, in bytes and milliseconds. */
const greetingLimits = { bytes: 100, ms: 5000 } as const;

/** Connections that fail, or end without a greeting, before a process is taken for one of an earlier version. */
const greetings = 4;

/** Takes a request of another process's. The socket is its own from then on. */
export type RequestHandler = (request: string, socket: Socket) => void;

/** What a process says of itself on its socket. */
interface Greeting {
  readonly isOwner: boolean;
  /** Unknown of earlier versions. */
  readonly pid: string | undefined;
}

/**
 * A process's socket in a data directory, which ends with the process, however that ends; it works across containers that
 * share the directory, where process ids mean nothing. It is there before LMDB opens the file, because each opening sets
 * the number of the last transaction in the shared lock file to what the file had a moment before, without a lock (lmdb
 * 3.5.6, mdb.c, `mdb_env_open2`): if another process commits at that moment, its next transaction overwrites that commit.
 *
 * Of two that begin at once the one with the lower nonce waits for the other to give way, to end, or to be the owner.
 */
export class StoreClaim {
  readonly nonce: string;
  readonly #dir: string;
  #server: Server | undefined;
  #isOwner = false;
  #handler: RequestHandler = (_, socket) => {
    socket.destroy();
  };
  readonly #sockets = new Set<Socket>();

  private constructor(dir: string, nonce: string) {
    this.#dir = dir;
    this.nonce = nonce;
  }

  /** Resolves once nobody else opens the file. Rejects with "store-locked" if an owner answers. */
  static async take(dir: string, signal?: AbortSignal): Promise<StoreClaim> {
    const endMs = performance.now() + patienceMs;
    for (;;) {
      const claim = new StoreClaim(dir, randomUUID().slice(0, 8));
      await claim.#listen();
      try {
        for (;;) {
          const others = await claim.#others();
          if (others.length === 0) return claim;
          if (performance.now() > endMs) throw locked(dir, "another process is opening it");
          if (others.some((nonce) => nonce < claim.nonce)) break;
          await sleep(pauseMs, signal);
        }
      } catch (error) {
        claim.close();
        throw error;
      }
      claim.close();
      await sleep(Math.random() * pauseMs, signal);
    }
  }

  /** From now on it says that it is the owner, and hands requests on. Without a handler it hangs up on them. */
  own(handler: RequestHandler = this.#handler): void {
    this.#isOwner = true;
    this.#handler = handler;
  }

  close(): void {
    this.#server?.close();
    for (const socket of this.#sockets) socket.destroy();
    rmSync(join(this.#dir, socketName(this.nonce)), { force: true });
  }

  async #listen(): Promise<void> {
    try {
      this.#server = await listenIn(this.#dir, socketName(this.nonce), (socket) => {
        this.#greet(socket);
      });
    } catch (cause) {
      const detail = `no lock: ${toError(cause).message}`;
      const problem = lacksSpace(cause)
        ? ({ kind: "store-full", detail: `${detail}: free some space on the disk of ${this.#dir}` } as const)
        : ({ kind: "store-unreadable", dir: this.#dir, detail } as const);
      throw new DomainError(problem, { cause });
    }
  }

  #greet(socket: Socket): void {
    socket.on("error", () => undefined);
    socket.unref();
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    socket.write(`sluice ${this.#isOwner ? "owner" : "opening"} ${process.pid}\n`);
    readLine(socket).then(
      (request) => {
        if (request === undefined) socket.destroy();
        else this.#handler(request, socket);
      },
      () => {
        socket.destroy();
      },
    );
  }

  /** The nonces of the others that are about to open the file. */
  async #others(): Promise<string[]> {
    const nonces: string[] = [];
    for (const nonce of noncesIn(this.#dir)) {
      if (nonce === this.nonce) continue;
      const peer = await greetedBy(this.#dir, nonce);
      peer?.socket.destroy();
      if (peer?.greeting.isOwner === true) throw lockedBy(this.#dir, peer.greeting);
      if (peer !== undefined) nonces.push(nonce);
    }
    return nonces;
  }
}

/** A connection to the process that owns the directory; undefined if there is none. */
export async function connectToOwner(dir: string): Promise<Socket | undefined> {
  for (const nonce of noncesIn(dir)) {
    const peer = await greetedBy(dir, nonce);
    if (peer?.greeting.isOwner === true && peer.greeting.pid !== undefined) return peer.socket;
    peer?.socket.destroy();
    if (peer?.greeting.isOwner === true) throw lockedBy(dir, peer.greeting);
  }
  return undefined;
}

export function socketName(nonce: string): string {
  return `owner-${nonce}.sock`;
}

function noncesIn(dir: string): string[] {
  let names: string[];
  try {
    names = readdirSync(dir);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new DomainError({ kind: "store-unreadable", dir, detail: toError(cause).message }, { cause });
  }
  return names.flatMap((name) => /^owner-([0-9a-f]{8})\.sock$/.exec(name)?.[1] ?? []);
}

/** Connects, and takes the greeting; undefined if nobody listens. Rejects with "store-locked" if that cannot be told. */
async function greetedBy(
  dir: string,
  nonce: string,
): Promise<{ readonly greeting: Greeting; readonly socket: Socket } | undefined> {
  for (let attempt = 1; ; attempt++) {
    let socket: Socket | undefined;
    try {
      socket = await connectIn(dir, socketName(nonce));
    } catch (cause) {
      if (attempt === greetings) {
        throw locked(dir, `whether a process still has it cannot be told: ${toError(cause).message}`, cause);
      }
      await sleep(pauseMs);
      continue;
    }
    if (socket === undefined) return undefined;
    socket.on("error", () => undefined);
    const line = await readLine(socket).catch(() => undefined);
    const [, state, pid] = /^sluice (owner|opening) (\d+)$/.exec(line ?? "") ?? [];
    // One that ends hangs up without a word, and is gone then. Earlier versions always do, and have such a socket only
    // as owners.
    if (state !== undefined || attempt === greetings) {
      return { greeting: { isOwner: state !== "opening", pid }, socket };
    }
    socket.destroy();
    await sleep(pauseMs);
  }
}

function lockedBy(dir: string, { pid }: Greeting): DomainError {
  return locked(dir, pid === undefined ? "another process has it" : `process ${pid} has it`);
}

function locked(dir: string, detail: string, cause?: unknown): DomainError {
  return new DomainError({ kind: "store-locked", dir, detail }, { cause });
}

/** The first line from the socket, which is paused then; undefined if it ends before. */
function readLine(socket: Socket): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    let text = "";
    const done = (): void => {
      clearTimeout(timer);
      socket.off("readable", read).off("close", ended).off("end", ended);
    };
    const read = (): void => {
      for (let byte: Buffer | null; (byte = socket.read(1) as Buffer | null) !== null;) {
        if (byte[0] === 0x0a) {
          done();
          resolve(text);
          return;
        }
        text += byte.toString("latin1");
        if (text.length < greetingLimits.bytes) continue;
        done();
        reject(new Error("the first line is too long"));
        return;
      }
    };
    const ended = (): void => {
      done();
      resolve(undefined);
    };
    const timer = setTimeout(() => {
      done();
      reject(new Error("there was no line"));
    }, greetingLimits.ms);
    timer.unref();
    socket.on("readable", read).on("close", ended).on("end", ended);
  });
}
