import { raceSignal } from "../async/signals.ts";

/** Lines that are read and not stored yet, in order: what a shipper holds while the server is away. */
export interface Backlog {
  /** Adds lines, and resolves once there is room for more. Rejects with the signal's reason while it waits. */
  add(lines: readonly Uint8Array[], signal: AbortSignal): Promise<void>;
  /** Nobody waits for room from now on: a signal has come, and what was read is to be kept. */
  hurry(): void;
  /** No more lines are added. */
  end(): void;
  /** The next lines to send; undefined once it has ended and all have been taken. */
  take(signal: AbortSignal): Promise<readonly Uint8Array[] | undefined>;
  /** The oldest lines that were taken are stored. */
  acked(): Promise<void>;
  /** How many lines are not stored. */
  readonly waiting: number;
  /** Who appends, and the number of the oldest batch that is not stored. Undefined: a new producer for each appender. */
  readonly producer: { readonly id: string; readonly firstSeq: number } | undefined;
  /** The server has forgotten the producer: another one sends what is not known to be stored, from its beginning. */
  renew(): Promise<void>;
  close(): Promise<void>;
}

/** What a record may hold. */
export interface BatchLimits {
  readonly maxRecords: number;
  readonly maxBytes: number;
}

/** What a line takes in memory besides its bytes, about. */
const lineOverheadBytes = 128;

/** A backlog in memory, bounded in bytes. Lines that wait are joined into larger batches. */
export class MemoryBacklog implements Backlog {
  readonly producer = undefined;
  readonly #maxBytes: number;
  readonly #limits: BatchLimits;
  readonly #change = new Change();
  #lines: Uint8Array[] = [];
  #bytes = 0;
  /** Sizes of the batches that are on their way. */
  readonly #taken: number[] = [];
  #waiting = 0;
  #ended = false;
  #hurried = false;

  constructor(maxBytes: number, limits: BatchLimits) {
    this.#maxBytes = maxBytes;
    this.#limits = limits;
  }

  get waiting(): number {
    return this.#waiting;
  }

  async add(lines: readonly Uint8Array[], signal: AbortSignal): Promise<void> {
    for (const line of lines) {
      this.#lines.push(line);
      this.#bytes += line.byteLength + lineOverheadBytes;
    }
    this.#waiting += lines.length;
    this.#change.happened();
    while (!this.#hurried && this.#bytes > this.#maxBytes) await this.#change.next(signal);
  }

  hurry(): void {
    this.#hurried = true;
    this.#change.happened();
  }

  end(): void {
    this.#ended = true;
    this.#change.happened();
  }

  async take(signal: AbortSignal): Promise<readonly Uint8Array[] | undefined> {
    while (this.#lines.length === 0) {
      if (this.#ended) return undefined;
      await this.#change.next(signal);
    }
    let count = 0;
    let bytes = 0;
    for (const line of this.#lines) {
      if (count === this.#limits.maxRecords || (count > 0 && bytes + line.byteLength > this.#limits.maxBytes)) break;
      count++;
      bytes += line.byteLength;
    }
    this.#bytes -= bytes + count * lineOverheadBytes;
    this.#taken.push(count);
    this.#change.happened();
    return this.#lines.splice(0, count);
  }

  acked(): Promise<void> {
    this.#waiting -= this.#taken.shift() ?? 0;
    return Promise.resolve();
  }

  renew(): Promise<void> {
    return Promise.reject(new Error("a backlog in memory has no producer of its own"));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Wakes those who wait for a state to change. */
export class Change {
  #next = Promise.withResolvers<undefined>();

  happened(): void {
    this.#next.resolve(undefined);
    this.#next = Promise.withResolvers<undefined>();
  }

  async next(signal: AbortSignal): Promise<void> {
    await raceSignal(this.#next.promise, signal);
  }
}
