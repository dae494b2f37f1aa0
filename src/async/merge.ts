/**
 * Yields what several generators yield, as it comes. Each is asked for its next
 * item only after its last one has been taken, so that nothing piles up. Ends
 * when all have ended; the first failure ends it, and leaving it ends all.
 */
export async function* merge<T>(
  ...sources: readonly AsyncGenerator<T, void, undefined>[]
): AsyncGenerator<T, void, undefined> {
  type Arrival = { source: AsyncGenerator<T, void, undefined> } & (
    { result: IteratorResult<T, void> } | { error: unknown }
  );
  const arrivals: Arrival[] = [];
  let wake: (() => void) | undefined;
  const arrive = (arrival: Arrival): void => {
    arrivals.push(arrival);
    wake?.();
  };
  const ask = (source: AsyncGenerator<T, void, undefined>): void => {
    source.next().then(
      (result) => {
        arrive({ source, result });
      },
      (error: unknown) => {
        arrive({ source, error });
      },
    );
  };
  let running = sources.length;
  try {
    for (const source of sources) ask(source);
    while (running > 0) {
      const arrival = arrivals.shift();
      if (arrival === undefined) {
        await new Promise<void>((resolve) => (wake = resolve));
        wake = undefined;
      } else if ("error" in arrival) {
        throw arrival.error;
      } else if (arrival.result.done === true) {
        running--;
      } else {
        yield arrival.result.value;
        ask(arrival.source);
      }
    }
  } finally {
    // Not awaited: a generator that waits ends only when its wait does.
    for (const source of sources) source.return().catch(() => undefined);
  }
}
