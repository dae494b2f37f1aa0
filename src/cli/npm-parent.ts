/** How often the parent process is looked at, in milliseconds. */
const pollMs = 500;

/**
 * A command line that is one `sluice` and nothing else, as npm passes it to a
 * shell: a script with more in it may start a server that is to outlive it.
 */
const onlySluice = /^(exec )?(\S*node )?['"]?[^\s'"&;|]*\bsluice(\.js)?['"]?( [^&;|]*)?$/;

/** Whether npm has started this process, by `npm start`, `npm run` or `npx`, and waits for its end. */
export function isRunByNpm(env: Readonly<Record<string, string | undefined>>): boolean {
  return env["npm_lifecycle_event"] !== undefined && onlySluice.test(env["npm_lifecycle_script"] ?? "");
}

/**
 * Calls `onGone` once when npm, or the shell that it has started this process
 * with, has ended. Returns the cleanup. Does nothing if npm is not the parent.
 *
 * npm sends the signals that it gets to its shell, which ends without passing
 * them on (`npx sluice serve`; the scripts of package.json replace the shell with
 * `exec`), and nobody passes a SIGKILL on. Without this the server would go on
 * without a parent, and keep its port and its data directory.
 */
export function onNpmGone(env: Readonly<Record<string, string | undefined>>, onGone: () => void): () => void {
  if (!isRunByNpm(env)) return () => undefined;
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    onGone();
  }, pollMs).unref();
  return () => {
    clearInterval(timer);
  };
}
