import type { EventEmitter } from "node:events";

/**
 * No wait is cut off before this, in milliseconds: a deadline names what hangs, it does not measure, and a busy machine
 * may take many times as long as an idle one. It is still less than the 30 s after which a silent connection is closed,
 * so that what is waited for does not come of that.
 */
const patienceMs = 25_000;

/** Fails a wait that takes too long, so that a hang names what it waited for. */
export async function within<T>(idleMs: number, what: string, work: Promise<T>): Promise<T> {
  const ms = Math.max(idleMs, patienceMs);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`${what} did not happen within ${ms} ms`));
    }, ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Polls until `check` is true. For states of other processes and of the machine, which send no event. */
export async function until(idleMs: number, what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  const ms = Math.max(idleMs, patienceMs);
  const end = Date.now() + ms;
  while (!(await check())) {
    if (Date.now() > end) throw new Error(`${what} did not happen within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Resolves when a socket, a stream or a session is destroyed; unlike `once`, never rejects with its error. */
export async function closing(closable: EventEmitter & { readonly destroyed: boolean }): Promise<void> {
  if (!closable.destroyed) await new Promise((resolve) => closable.once("close", resolve));
}

/** A promise with its functions, for waiting on callbacks. */
export function deferred<T = void>(): PromiseWithResolvers<T> {
  return Promise.withResolvers<T>();
}
