import { toError } from "./to-error.ts";

/** Waits for every promise. Fails, once all are over, with the one failure or with an AggregateError of several. */
export async function settleAll(promises: Iterable<Promise<unknown>>): Promise<void> {
  const failures: Error[] = [];
  for (const result of await Promise.allSettled(promises)) {
    if (result.status === "fulfilled") continue;
    const failure = toError(result.reason);
    if (failure instanceof AggregateError) failures.push(...failure.errors.map(toError));
    else failures.push(failure);
  }
  const [first, ...others] = failures;
  if (first === undefined) return;
  if (others.length === 0) throw first;
  throw new AggregateError(failures, failures.map(({ message }) => message).join("; "));
}
