/** Gets an error that no call can carry: a fault of this program or of its platform. */
export type OnUnexpected = (error: unknown) => void;

/**
 * Returns a listener that never throws. An error that is thrown from an event
 * or a timer ends the process; here `fail` gets it, and ends what the event was
 * about.
 *
 * `fail` must not throw.
 */
export function guarded<A extends readonly unknown[]>(
  fail: OnUnexpected,
  listener: (...args: A) => void,
): (...args: A) => void {
  return (...args) => {
    try {
      listener(...args);
    } catch (error) {
      fail(error);
    }
  };
}

/** The default where no `OnUnexpected` is given: throws the error outside of every caller, which ends the process. */
export function raise(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
