/** Why a connection was not let in. */
export const refusalReasons = ["full", "address", "address_rate", "draining"] as const;
export type RefusalReason = (typeof refusalReasons)[number];

/** Why the server has closed a connection that was in. */
export const closureReasons = [
  "evicted",
  "idle",
  "reset_flood",
  "header_timeout",
  "keepalive_timeout",
  "handshake",
  "protocol_error",
] as const;
export type ClosureReason = (typeof closureReasons)[number];

/** What was refused and closed since the last summary, in numbers. */
export interface RefusalSummary {
  readonly refused: Partial<Record<RefusalReason, number>>;
  readonly closed: Partial<Record<ClosureReason, number>>;
  /** The addresses with the most of both; the numbers of those that come late may be too high. */
  readonly addresses: readonly { readonly address: string; readonly count: number }[];
}

/** Milliseconds from the first event of a quiet time to its summary, which so tells of a burst and not of its begin. */
const firstDelayMs = 1000;

/** Milliseconds between two summaries. */
const intervalMs = 60_000;

/** Addresses that are counted, and that a summary names. */
const maxCounted = 64;
const maxNamed = 5;

/** Counts connections that were refused or closed, and sums them up: at most once a minute, however many they are. */
export class Refusals {
  readonly refused: Record<RefusalReason, number> = zeros(refusalReasons);
  readonly closed: Record<ClosureReason, number> = zeros(closureReasons);
  readonly #onSummary: ((summary: RefusalSummary) => void) | undefined;
  #refused: Partial<Record<RefusalReason, number>> = {};
  #closed: Partial<Record<ClosureReason, number>> = {};
  #addresses = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #summedUpAt = -Infinity;

  constructor(onSummary?: (summary: RefusalSummary) => void) {
    this.#onSummary = onSummary;
  }

  refuse(reason: RefusalReason, address: string): void {
    this.refused[reason]++;
    this.#refused[reason] = (this.#refused[reason] ?? 0) + 1;
    this.#note(address);
  }

  close(reason: ClosureReason, address: string): void {
    this.closed[reason]++;
    this.#closed[reason] = (this.#closed[reason] ?? 0) + 1;
    this.#note(address);
  }

  /** Sums up what is left, and does not do so again. */
  end(): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#sumUp();
  }

  #note(address: string): void {
    if (this.#onSummary === undefined) return;
    this.#count(address);
    if (this.#timer !== undefined) return;
    const delay = Math.max(firstDelayMs, this.#summedUpAt + intervalMs - performance.now());
    this.#timer = setTimeout(() => {
      this.#sumUp();
    }, delay).unref();
  }

  /**
   * Counts in bounded memory: an address that finds no place takes that of the rarest one, with its count, so that the
   * most frequent ones are always among those that are left (Metwally and others, "Space-Saving", 2005).
   */
  #count(address: string): void {
    const count = this.#addresses.get(address);
    if (count !== undefined || this.#addresses.size < maxCounted) {
      this.#addresses.set(address, (count ?? 0) + 1);
      return;
    }
    let rarest = "";
    let least = Infinity;
    for (const [other, times] of this.#addresses) {
      if (times < least) [rarest, least] = [other, times];
    }
    this.#addresses.delete(rarest);
    this.#addresses.set(address, least + 1);
  }

  #sumUp(): void {
    this.#timer = undefined;
    this.#summedUpAt = performance.now();
    const addresses = [...this.#addresses]
      .sort(([, a], [, b]) => b - a)
      .slice(0, maxNamed)
      .map(([address, count]) => ({ address, count }));
    const summary = { refused: this.#refused, closed: this.#closed, addresses };
    this.#refused = {};
    this.#closed = {};
    this.#addresses = new Map();
    this.#onSummary?.(summary);
  }
}

function zeros<K extends string>(reasons: readonly K[]): Record<K, number> {
  return Object.fromEntries(reasons.map((reason) => [reason, 0])) as Record<K, number>;
}
