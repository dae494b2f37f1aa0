import { toError } from "../async/to-error.ts";
import { DomainError } from "../errors.ts";
import { isForWantOfSpace } from "./disk-space.ts";

/** The store cannot be used any more, because of `cause`. */
export function unavailable(cause: Error): DomainError {
  return new DomainError({ kind: "store-unavailable", detail: cause.message }, { cause });
}

/** A commit fails when the disk is full, or when it is broken; LMDB calls both an input/output error. */
export async function toDomainError(error: unknown, dir: string): Promise<DomainError> {
  if (error instanceof DomainError) return error;
  const cause = await causeOf(error);
  const full = await isForWantOfSpace(cause, dir);
  const detail = full ? `the disk of ${dir} is full: free some space` : cause.message;
  return new DomainError({ kind: full ? "store-full" : "store-unavailable", detail }, { cause });
}

/** lmdb gives the reason as a promise that fails with it. */
async function causeOf(error: unknown): Promise<Error> {
  if (!(error instanceof Error) || !("commitError" in error)) return toError(error);
  try {
    return toError(await error.commitError);
  } catch (reason) {
    return toError(reason);
  }
}
