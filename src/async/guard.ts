/** Gets an error that no call can carry: a fault of this program or of its platform. */
export type OnUnexpected = (error: unknown) => void;

/**
 * Returns a listener that never throws. An error that is thrown from an event
 * or a timer ends the process; here `fail` gets it, and ends what the event was
 * about.
 *
 * `fail` must not throw.
 */
export function guarded<A = void>(fail: OnUnexpected, listener: (arg: A) => void): (arg: A) => void {
  // One argument, because a list of them would be an array for each chunk of a body.
  return (arg) => {
    try {
      listener(arg);
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
