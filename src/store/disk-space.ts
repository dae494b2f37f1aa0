import { statfs } from "node:fs/promises";
import { toError } from "../async/to-error.ts";

/** File systems that write each block to a new place, by their magic numbers (statfs(2)): btrfs, ZFS, bcachefs. */
const copyOnWrite: readonly number[] = [0x9123683e, 0x2fc12fc1, 0xca451a4e];

/** The space of a file system, in bytes. */
export interface DiskSpace {
  readonly free: number;
  readonly total: number;
  /** Whether writing over a block needs a free one. */
  readonly copiesOnWrite: boolean;
}

/** Space of the file system that has `path`; undefined if it does not say. */
export async function diskSpace(path: string): Promise<DiskSpace | undefined> {
  try {
    const { bavail, blocks, bsize, type } = await statfs(path);
    return { free: bavail * bsize, total: blocks * bsize, copiesOnWrite: copyOnWrite.includes(type) };
  } catch {
    return undefined;
  }
}

/** With less free space than this, in bytes, a write that failed did so for want of space. */
const fullBelow = 16 * 1024 * 1024;

/** Whether the failure of a write came of a lack of space: LMDB calls that an input/output error too. */
export async function isForWantOfSpace(error: unknown, path: string): Promise<boolean> {
  if (lacksSpace(error)) return true;
  const space = await diskSpace(path);
  // A directory that has been moved, or a disk that does not answer, has no free space to tell.
  return space !== undefined && space.free < Math.min(fullBelow, space.total / 8);
}

/** Whether an error says that the disk, a quota or the file's size has come to its limit. */
export function lacksSpace(error: unknown): boolean {
  const { code, message } = toError(error) as NodeJS.ErrnoException;
  const codes = ["ENOSPC", "EDQUOT", "EFBIG"];
  return (code !== undefined && codes.includes(code)) || /ENOSPC|EDQUOT|EFBIG|No space|MAP_FULL/i.test(message);
}
