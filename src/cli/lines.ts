/** Bytes as they come in, cut into lines. */

const newline = 0x0a;

/** What becomes of a line that is longer than the limit. */
export const longLineModes = ["split", "truncate", "fail"] as const;
export type LongLines = (typeof longLineModes)[number];

/** A line that is longer than the limit. */
export class LineTooLongError extends Error {
  readonly line: number;

  constructor(line: number, limit: number) {
    super(`line ${line} is longer than ${limit} bytes`);
    this.name = "LineTooLongError";
    this.line = line;
  }
}

export interface SplitOptions {
  readonly maxLineBytes: number;
  /** `split` makes several lines of a longer one, and `truncate` drops its end. */
  readonly longLines: LongLines;
  /** Called for each longer line with its number, from 1 on. */
  readonly onLongLine?: (line: number) => void;
}

/**
 * Yields the lines that each chunk completes, without their newlines and
 * otherwise byte by byte; a last line without a newline counts. Holds one
 * unfinished line at most, up to the limit.
 */
export async function* splitLines(
  input: AsyncIterable<Uint8Array>,
  options: SplitOptions,
): AsyncGenerator<Uint8Array[], void, undefined> {
  const line = new UnfinishedLine(options);
  for await (const chunk of input) {
    let start = 0;
    try {
      for (let end = chunk.indexOf(newline); end !== -1; end = chunk.indexOf(newline, start)) {
        line.add(chunk.subarray(start, end));
        line.finish();
        start = end + 1;
      }
      line.add(chunk.subarray(start));
    } catch (error) {
      // The lines before the one that is too long are good.
      const lines = line.take();
      if (lines.length > 0) yield lines;
      throw error;
    }
    const lines = line.take();
    if (lines.length > 0) yield lines;
  }
  if (line.begun) line.finish();
  const last = line.take();
  if (last.length > 0) yield last;
}

/** The line that is being read, and those that are done. */
class UnfinishedLine {
  readonly #options: SplitOptions;
  #done: Uint8Array[] = [];
  #parts: Uint8Array[] = [];
  #bytes = 0;
  #number = 1;
  #isLong = false;

  constructor(options: SplitOptions) {
    this.#options = options;
  }

  get begun(): boolean {
    return this.#bytes > 0;
  }

  add(part: Uint8Array): void {
    const { maxLineBytes, longLines, onLongLine } = this.#options;
    let rest = part;
    while (this.#bytes + rest.byteLength > maxLineBytes) {
      if (longLines === "fail") throw new LineTooLongError(this.#number, maxLineBytes);
      if (!this.#isLong) onLongLine?.(this.#number);
      this.#isLong = true;
      const room = maxLineBytes - this.#bytes;
      this.#keep(rest.subarray(0, room));
      if (longLines === "truncate") return;
      this.#emit();
      rest = rest.subarray(room);
    }
    this.#keep(rest);
  }

  finish(): void {
    // After a split at its very end nothing is left of the line.
    if (this.#bytes > 0 || !this.#isLong) this.#emit();
    this.#isLong = false;
    this.#number++;
  }

  take(): Uint8Array[] {
    const done = this.#done;
    this.#done = [];
    return done;
  }

  #keep(part: Uint8Array): void {
    if (part.byteLength === 0) return;
    this.#parts.push(part);
    this.#bytes += part.byteLength;
  }

  #emit(): void {
    // Copied: the chunk is much larger, and would stay in memory as long as its shortest line.
    this.#done.push(Buffer.concat(this.#parts));
    this.#parts = [];
    this.#bytes = 0;
  }
}

/** Cuts lines into batches that keep the server's default limits. */
export function* batches(
  lines: readonly Uint8Array[],
  limits: { readonly maxRecords: number; readonly maxBytes: number },
): Generator<Uint8Array[], void, undefined> {
  let batch: Uint8Array[] = [];
  let bytes = 0;
  for (const line of lines) {
    if (batch.length > 0 && (batch.length === limits.maxRecords || bytes + line.byteLength > limits.maxBytes)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(line);
    bytes += line.byteLength;
  }
  if (batch.length > 0) yield batch;
}
