import { createHash, randomUUID } from "node:crypto";
import { lstat, mkdir, readdir, rm, rmdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { privateModes } from "../file-modes.ts";
import { isLockSocket, lockDirectory, LockedError } from "./directory-lock.ts";
import { CliError, systemCode } from "./failure.ts";

/** Longest name of a file, in bytes: NAME_MAX of Linux and macOS. */
const maxNameBytes = 255;
const suffix = ".sluice-part";

/** Where an unfinished copy of a target grows; this process alone uses it. */
export interface PartDirectory {
  readonly path: string;
  /** Keeps what is in it for a later pull. */
  release(): Promise<void>;
  remove(): Promise<void>;
}

/**
 * Opens the directory in which the copy of `target` grows, beside it, so that the copy can be renamed. Nobody else can
 * put a link into it, because its mode is 0700.
 */
export async function openPartDirectory(target: string, signal: AbortSignal): Promise<PartDirectory> {
  const path = join(dirname(target), partName(basename(target)));
  for (;;) {
    try {
      await makeOwn(path);
      return directory(path, await lockDirectory(path, signal));
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof LockedError) {
        throw new CliError("conflict", `another pull writes ${target}: wait for its end, or give another file`);
      }
      if (error instanceof CliError) throw error;
      // The pull that has just ended has removed it.
      if (systemCode(error) === "ENOENT" && (await isDirectory(dirname(target)))) continue;
      // The file system has no sockets, or takes nothing at all: then this fails too.
      await rmdir(path).catch(() => undefined);
      return openUnshared(target);
    }
  }
}

/** A directory that no other process knows needs no lock, and no later pull goes on from it. */
async function openUnshared(target: string): Promise<PartDirectory> {
  const path = join(dirname(target), `.${randomUUID()}${suffix}`);
  await mkdir(path, { mode: privateModes.directory });
  return directory(path, () => Promise.resolve());
}

function directory(path: string, release: () => Promise<void>): PartDirectory {
  return {
    path,
    release,
    async remove() {
      for (const name of await readdir(path)) {
        if (!isLockSocket(name)) await rm(join(path, name), { force: true });
      }
      await release();
      // Another pull may be in it by now.
      await rmdir(path).catch(() => undefined);
    },
  };
}

/** `.NAME.sluice-part`, or with a hash in place of a name that is too long to add to. */
function partName(name: string): string {
  const readable = `.${name}${suffix}`;
  if (Buffer.byteLength(readable) <= maxNameBytes) return readable;
  return `.${createHash("sha256").update(name).digest("hex")}${suffix}`;
}

function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
}

/** Makes the directory, or takes the one that an earlier pull of this user has made. */
async function makeOwn(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: privateModes.directory });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    const stats = await lstat(path);
    const uid = process.getuid?.();
    if (!stats.isDirectory() || (uid !== undefined && stats.uid !== uid) || (stats.mode & 0o022) !== 0) {
      throw new CliError("conflict", `${path} is in the way: no pull of this user has made it. Remove it`);
    }
  }
}
