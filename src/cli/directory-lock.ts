import { randomUUID } from "node:crypto";
import { access, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { sleep } from "../async/signals.ts";
import { isAnswered, listenIn } from "../process-sockets.ts";

/** Attempts, and the longest pause between two, in milliseconds: processes that start at once refuse each other. */
const attempts = 5;
const maxPauseMs = 50;
const defaultLock = "lock";

/** Whether a file in a locked directory belongs to the lock. */
export function isLockSocket(name: string, lock = defaultLock): boolean {
  return name.startsWith(`${lock}-`) && /^[0-9a-f-]{36}\.sock$/.test(name.slice(lock.length + 1));
}

/** Rejected with when another process holds the lock. */
export class LockedError extends Error {
  constructor(dir: string) {
    super(`another process uses ${dir}`);
    this.name = "LockedError";
  }
}

/**
 * Makes this process the only one that uses the directory, or what the lock's name stands for in it. Resolves with the function that releases it. Rejects with a
 * LockedError if another process holds it, and with the system's error where the file system has no sockets.
 *
 * A process first listens on a socket of its own, and then looks for others: of two, at least one sees the other and
 * gives way, so that both never go on. Sockets that nobody answers are left by processes that were killed. A socket may
 * be taken for such a one between bind and listen, and removed: so a process also checks that its own is still there.
 */
export async function lockDirectory(
  dir: string,
  signal: AbortSignal,
  lock = defaultLock,
): Promise<() => Promise<void>> {
  for (let attempt = 1; ; attempt++) {
    const name = `${lock}-${randomUUID()}.sock`;
    const server = await listenIn(dir, name);
    const release = async (): Promise<void> => {
      server.close();
      await rm(join(dir, name), { force: true });
    };
    try {
      if (!(await hasOthers(dir, name, lock)) && (await isThere(join(dir, name)))) return release;
    } catch (error) {
      await release();
      throw error;
    }
    await release();
    if (attempt === attempts) throw new LockedError(dir);
    await sleep(Math.random() * maxPauseMs, signal);
  }
}

async function hasOthers(dir: string, own: string, lock: string): Promise<boolean> {
  for (const name of await readdir(dir)) {
    if (name === own || !isLockSocket(name, lock)) continue;
    if (await isAnswered(dir, name)) return true;
    await rm(join(dir, name), { force: true });
  }
  return false;
}

function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
