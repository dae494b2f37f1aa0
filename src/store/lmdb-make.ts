import {
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { makeStoreDirectory, openTables, unusable } from "./lmdb-env.ts";

/** How the directories begin in which a store is made before it has its place. `mkdtemp` adds six characters. */
export const draftPrefix = "new-";

/**
 * Makes the store of a directory, if there is none. It is made beside its place, and gets its name once all of it is on
 * the disk: a power cut leaves a whole store or none. LMDB itself makes a file in several steps, and cannot open what a
 * power cut between them leaves.
 */
export async function makeStore(dir: string): Promise<void> {
  const path = join(dir, "data.mdb");
  makeStoreDirectory(dir);
  if (existsSync(path)) return;
  let draft: string | undefined;
  try {
    draft = mkdtempSync(join(dir, draftPrefix));
    const { root } = openTables(dir, { at: draft });
    await root.close();
    flushFile(join(draft, "data.mdb"));
    placeFile(join(draft, "data.mdb"), path);
    flushFile(dir);
    flushFile(dirname(resolve(dir)));
  } catch (cause) {
    // Another process has made one meanwhile, and may have removed this draft.
    if (!existsSync(path)) throw unusable(dir, cause);
  } finally {
    if (draft !== undefined) rmSync(draft, { recursive: true, force: true });
  }
}

/** Removes what a power cut has left of a store that was being made. Only for the owner of the directory. */
export function removeDrafts(dir: string): void {
  for (const name of readdirSync(dir)) {
    if (/^new-[A-Za-z0-9]{6}$/.test(name)) rmSync(join(dir, name), { recursive: true, force: true });
  }
}

/** Gives a file its name, unless there is one of that name already. */
export function placeFile(draft: string, path: string): void {
  try {
    linkSync(draft, path);
  } catch (error) {
    // A file system without links, such as FAT.
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "EPERM" && code !== "ENOTSUP" && code !== "EOPNOTSUPP") throw error;
    renameSync(draft, path);
  }
}

/** Puts a file, or the names in a directory, on the disk. */
export function flushFile(path: string): void {
  const file = openSync(path, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
