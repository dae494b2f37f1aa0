/** Small tools for waits that end with an AbortSignal. */

/** Resolves after `ms`; rejects with the signal's reason when it is aborted first. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(reasonOf(signal));
      return;
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    function onAbort(): void {
      clearTimeout(timer);
      if (signal) reject(reasonOf(signal));
    }
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/**
 * Resolves or rejects as `promise` does, or rejects with the signal's reason if
 * that comes first. The promise itself goes on, and its failure is then unobserved
 * on purpose.
 */
export function raceSignal<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      promise.catch(() => undefined);
      reject(reasonOf(signal));
      return;
    }
    const onAbort = (): void => {
      reject(reasonOf(signal));
    };
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => {
      signal.removeEventListener("abort", onAbort);
    });
  });
}

/** Calls `listener` once when the signal is aborted, at once if it is already. Returns the cleanup. */
export function onAbort(signal: AbortSignal, listener: (reason: Error) => void): () => void {
  const run = (): void => {
    listener(reasonOf(signal));
  };
  if (signal.aborted) {
    run();
    return () => undefined;
  }
  signal.addEventListener("abort", run, { once: true });
  return () => {
    signal.removeEventListener("abort", run);
  };
}

/** The signal's reason as an Error, whatever was given to `abort`. */
export function reasonOf(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason : new Error("aborted", { cause: reason });
}

/**
 * A signal that is aborted when any of `signals` is. Unlike `AbortSignal.any`, it
 * can be let go of: after `cleanup` a long-lived signal does not hold it.
 */
export function linkSignals(...signals: readonly (AbortSignal | undefined)[]): {
  signal: AbortSignal;
  abort: (reason?: unknown) => void;
  cleanup: () => void;
} {
  const controller = new AbortController();
  const cleanups: (() => void)[] = [];
  const cleanup = (): void => {
    for (const fn of cleanups.splice(0)) fn();
  };
  for (const signal of signals) {
    if (signal === undefined || controller.signal.aborted) continue;
    cleanups.push(
      onAbort(signal, (reason) => {
        controller.abort(reason);
        cleanup();
      }),
    );
  }
  return {
    signal: controller.signal,
    abort: (reason) => {
      controller.abort(reason);
      cleanup();
    },
    cleanup,
  };
}

/** Waits for `work`, but not for longer than `ms`, and not once `cut` is aborted. Rejects only if `work` does. */
export async function settledWithin(ms: number, work: Promise<void>, cut?: AbortSignal): Promise<void> {
  const timer = new AbortController();
  const signal = cut === undefined ? timer.signal : AbortSignal.any([timer.signal, cut]);
  await Promise.race([work, sleep(ms, signal).catch(() => undefined)]);
  timer.abort();
}
