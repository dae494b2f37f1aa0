import { addAbortSignal } from "node:stream";
import type { Readable } from "node:stream";
import { serverOptions } from "../config.ts";
import { CliError } from "./failure.ts";
import { plural } from "./format.ts";
import { batches, LineTooLongError, splitLines } from "./lines.ts";
import type { ClientSession } from "./session.ts";
import { findReadableStream } from "./streams.ts";

export interface PushLinesOptions {
  readonly stream: string;
  readonly input: Readable;
  readonly seal: boolean;
}

const limits = { maxRecords: serverOptions.maxBatchRecords.default, maxBytes: serverOptions.maxBatchBytes.default };

/** Appends each line as it arrives, one record a line. After Ctrl-C what was read is still stored. */
export async function pushLines(session: ClientSession, { stream, input, seal }: PushLinesOptions): Promise<void> {
  const { client, out, signal } = session;
  // Before the first line is taken: a wrong token or server must not cost a line.
  const info = await findReadableStream(client, stream, signal);
  if (info?.sealed === true)
    throw new CliError("conflict", `stream "${stream}" is sealed: nothing can be appended any more`);

  const failed = new AbortController();
  const appender = client.data.appender(stream, {
    createIfMissing: true,
    onRetry: out.retry,
  });
  let firstSeq: bigint | undefined;
  let nextSeq = 0n;
  let records = 0;
  const append = async (lines: Uint8Array[]): Promise<void> => {
    const ack = await appender.append(lines.map((data) => ({ data })));
    firstSeq ??= ack.firstSeq;
    nextSeq = ack.nextSeq;
    records += lines.length;
  };

  let failure: { readonly error: unknown } | undefined;
  try {
    const lines = splitLines(until(input, AbortSignal.any([signal, failed.signal])), limits.maxBytes);
    for await (const some of lines) {
      for (const batch of batches(some, limits)) {
        await appender.ready();
        append(batch).catch((error: unknown) => {
          failed.abort(error);
        });
      }
    }
    if (seal && !signal.aborted) await appender.seal();
  } catch (error) {
    failure = { error };
  }
  try {
    await appender.close();
  } catch (error) {
    failure ??= { error };
  }
  failed.signal.throwIfAborted();
  if (failure?.error instanceof LineTooLongError) {
    throw new CliError(
      "usage",
      `${failure.error.message}, which is the limit for a record; the ${plural(records, "line")} before it ${records === 1 ? "is" : "are"} stored`,
    );
  }
  if (failure !== undefined) throw failure.error;
  await out.result(
    records === 0
      ? `no lines, nothing appended to ${stream}`
      : `appended ${plural(records, "line")} to ${stream}: seq ${firstSeq} to ${nextSeq - 1n}${seal ? ", sealed" : ""}`,
    {
      stream,
      records,
      firstSeq: firstSeq === undefined ? null : Number(firstSeq),
      nextSeq: records === 0 ? null : Number(nextSeq),
      sealed: seal,
    },
  );
}

/** The input until its end or the signal, whichever comes first; the signal is an end like the other. */
async function* until(input: Readable, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* addAbortSignal(signal, input) as AsyncIterable<Uint8Array>;
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
