/** Keys that are remembered, at most. */
const maxKeys = 1000;

/** Tells what was seen within the last minute, so that what many callers meet is logged once. */
export class RecentKeys {
  readonly #ms: number;
  /** When each was seen first, in milliseconds. */
  readonly #seen = new Map<string, number>();

  constructor(ms = 60_000) {
    this.#ms = ms;
  }

  /** Whether the key was not seen for so long. Remembers it then. */
  isNew(key: string, nowMs = performance.now()): boolean {
    const seenMs = this.#seen.get(key);
    if (seenMs !== undefined && nowMs - seenMs < this.#ms) return false;
    this.#seen.delete(key);
    this.#seen.set(key, nowMs);
    const [oldest] = this.#seen.keys();
    if (this.#seen.size > maxKeys && oldest !== undefined) this.#seen.delete(oldest);
    return true;
  }
}
