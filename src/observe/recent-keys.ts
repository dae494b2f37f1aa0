/** Keys that are remembered, at most. */
const maxKeys = 1000;

/** For how long a key is remembered, in milliseconds. */
const rememberMs = 60_000;

/** Tells what was seen within the last minute, so that what many callers meet is logged once. */
export class RecentKeys {
  /** When each was seen first, in milliseconds. */
  readonly #seen = new Map<string, number>();

  /** Whether the key was not seen within the last minute. Remembers it then. */
  isNew(key: string): boolean {
    const nowMs = performance.now();
    const seenMs = this.#seen.get(key);
    if (seenMs !== undefined && nowMs - seenMs < rememberMs) return false;
    this.#seen.delete(key);
    this.#seen.set(key, nowMs);
    const [oldest] = this.#seen.keys();
    if (this.#seen.size > maxKeys && oldest !== undefined) this.#seen.delete(oldest);
    return true;
  }
}
