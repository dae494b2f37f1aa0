import { constants } from "node:fs";
import type { Stats } from "node:fs";
import { access, lstat, open, realpath, rename, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { CliError, fileError, systemCode } from "./failure.ts";
import { writeAll } from "./write-all.ts";

const copyBytes = 1024 * 1024;

/**
 * Returns the path of the file that is written for `output`: where a link leads, as with `cp`. Rejects if that file
 * cannot be written, so that nothing is copied in vain.
 */
export async function findTarget(output: string): Promise<string> {
  const path = resolve(output);
  if ((await lstat(path).catch(() => undefined)) === undefined) {
    return join(await realpath(dirname(path)).catch(() => dirname(path)), basename(path));
  }
  try {
    const target = await realpath(path);
    await access(target, constants.W_OK);
    return target;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw fileError(output, "written", cause);
    throw new CliError("usage", `${output} is a link to a file that does not exist: remove it, or give that file`, {
      cause,
    });
  }
}

/**
 * Puts the copy in the target's place. An existing file keeps its mode, its owner and its hard links, as with `cp`: the
 * copy takes its place if it can take over the first two, and is otherwise written into it. Resolves with the file as it
 * is then, for the caller to check and close.
 */
export async function replaceTarget(part: FileHandle, partPath: string, target: string): Promise<FileHandle> {
  const existing = await stat(target).catch(() => undefined);
  if (existing !== undefined && !(await takesOver(part, existing))) return overwrite(part, target);
  await part.sync();
  try {
    await rename(partPath, target);
  } catch (error) {
    // A mount point, as of a container, and a file in a sticky directory cannot be replaced, but written.
    if (existing === undefined || !["EBUSY", "EPERM", "EACCES"].includes(systemCode(error) ?? "")) throw error;
    return overwrite(part, target);
  }
  return part;
}

/** Gives the copy the mode and the owner of the file; false if that is not possible, or the file has other names. */
async function takesOver(part: FileHandle, { nlink, uid, gid, mode }: Stats): Promise<boolean> {
  if (nlink > 1) return false;
  const own = await part.stat();
  try {
    if (own.uid !== uid || own.gid !== gid) await part.chown(uid, gid);
    await part.chmod(mode & 0o777);
    return true;
  } catch {
    return false;
  }
}

async function overwrite(part: FileHandle, target: string): Promise<FileHandle> {
  const file = await open(target, "r+");
  try {
    const buffer = Buffer.allocUnsafe(copyBytes);
    let length = 0;
    for (;;) {
      const { bytesRead } = await part.read(buffer, 0, buffer.length, length);
      if (bytesRead === 0) break;
      await writeAll(file, buffer.subarray(0, bytesRead), length);
      length += bytesRead;
    }
    await file.truncate(length);
    await file.sync();
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}
