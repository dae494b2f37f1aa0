/** Bytes as they come in, cut into lines. */

const newline = 0x0a;

/** A line that is longer than the limit. */
export class LineTooLongError extends Error {
  readonly line: number;

  constructor(line: number, limit: number) {
    super(`line ${line} is longer than ${limit} bytes`);
    this.name = "LineTooLongError";
    this.line = line;
  }
}

/**
 * Yields the lines that each chunk completes, without their newlines and
 * otherwise byte by byte; a last line without a newline counts. Holds one
 * unfinished line at most.
 */
export async function* splitLines(
  input: AsyncIterable<Uint8Array>,
  maxLineBytes: number,
): AsyncGenerator<Uint8Array[], void, undefined> {
  let rest: Uint8Array[] = [];
  let restBytes = 0;
  let count = 0;
  const finish = (end: Uint8Array): Uint8Array => {
    count++;
    if (restBytes + end.byteLength > maxLineBytes) throw new LineTooLongError(count, maxLineBytes);
    // Copied: the chunk is much larger, and would stay in memory as long as its shortest line.
    const line = Buffer.concat([...rest, end]);
    rest = [];
    restBytes = 0;
    return line;
  };
  for await (const chunk of input) {
    const lines: Uint8Array[] = [];
    let start = 0;
    try {
      for (let end = chunk.indexOf(newline); end !== -1; end = chunk.indexOf(newline, start)) {
        lines.push(finish(chunk.subarray(start, end)));
        start = end + 1;
      }
      if (start < chunk.byteLength) {
        rest.push(chunk.subarray(start));
        restBytes += chunk.byteLength - start;
        if (restBytes > maxLineBytes) throw new LineTooLongError(count + 1, maxLineBytes);
      }
    } catch (error) {
      // The lines before the one that is too long are good.
      if (lines.length > 0) yield lines;
      throw error;
    }
    if (lines.length > 0) yield lines;
  }
  if (restBytes > 0) yield [finish(new Uint8Array())];
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
