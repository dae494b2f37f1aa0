import type { Logger } from "./log.ts";

/** Milliseconds between two lines. */
const intervalMs = 60_000;

/** Characters of a path that are logged. */
const maxPathLength = 200;

/** Logs requests to unknown paths: the first at once, the others at most once a minute, by one example and their number. */
export function createUnknownPathLog(log: Logger): {
  /** `path` is without its query. */
  note(path: string, peer: string): void;
  /** Logs what has not been logged yet. */
  end(): void;
} {
  let requests = 0;
  let example = { path: "", peer: "" };
  let timer: NodeJS.Timeout | undefined;
  const write = (): void => {
    if (requests === 0) return;
    log.info({ ...example, requests }, "requests to paths that are none of a method: see server reflection");
    requests = 0;
  };
  const wait = (): void => {
    timer = setTimeout(() => {
      timer = undefined;
      if (requests === 0) return;
      write();
      wait();
    }, intervalMs).unref();
  };
  return {
    note(path, peer) {
      requests++;
      if (requests === 1) example = { path: path.slice(0, maxPathLength), peer };
      if (timer !== undefined) return;
      write();
      wait();
    },
    end() {
      clearTimeout(timer);
      write();
    },
  };
}
