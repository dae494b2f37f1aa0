import { stat } from "node:fs/promises";
import { sleep } from "../async/signals.ts";

/** How often a file is looked at, in milliseconds. */
const pollMs = 500;

/** How long a changed file must rest before it is read, in milliseconds: editors write in several steps. */
const settleMs = 100;

/** Tells one state of a file from another, through links. A file that cannot be looked at has a state too. */
export async function fileState(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(" ");
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : "unknown";
  }
}

/**
 * Calls `changed` once after each change of a file that was last read in the
 * state `seen`. Returns the cleanup.
 *
 * Looks at the file instead of using `fs.watch`: that sees neither a link's
 * target that is replaced in another directory nor a change on a network file
 * system, and fails when the machine's number of watches is used up.
 */
export function watchFile(path: string, seen: string, changed: () => Promise<void>): () => void {
  const watching = new AbortController();
  const watch = async (): Promise<void> => {
    for (let last = seen; ;) {
      await sleep(pollMs, watching.signal);
      if ((await fileState(path)) === last) continue;
      await sleep(settleMs, watching.signal);
      last = await fileState(path);
      await changed();
    }
  };
  // It ends only by the cleanup.
  watch().catch(() => undefined);
  return () => {
    watching.abort();
  };
}
