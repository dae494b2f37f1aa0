import type { Readable } from "node:stream";
import { serverOptions } from "../config.ts";
import { MemoryBacklog } from "./backlog.ts";
import type { Backlog } from "./backlog.ts";
import { CliError } from "./failure.ts";
import { plural } from "./format.ts";
import { LineTooLongError } from "./lines.ts";
import type { LongLines } from "./lines.ts";
import { LineShipper } from "./line-shipper.ts";
import { Retries } from "./retries.ts";
import type { ClientSession } from "./session.ts";
import { Spool } from "./spool.ts";
import { findReadableStream } from "./streams.ts";

export interface PushLinesOptions {
  readonly stream: string;
  readonly input: Readable;
  readonly seal: boolean;
  readonly longLines: LongLines;
  /** Lines that wait in memory, in bytes, beyond which the input waits. */
  readonly bufferBytes: number;
  /** Where lines wait instead. */
  readonly spool: { readonly path: string; readonly maxBytes: number } | undefined;
  /** How long an outage may last; undefined for ever. */
  readonly retryForMs: number | undefined;
}

const limits = { maxRecords: serverOptions.maxBatchRecords.default, maxBytes: serverOptions.maxBatchBytes.default };

/** Appends each line as it arrives, one record a line. After a signal what was read is still stored, if that is quick. */
export async function pushLines(session: ClientSession, options: PushLinesOptions): Promise<void> {
  const { out, signal } = session;
  const { stream, spool, bufferBytes } = options;
  const retries = new Retries(out, options.retryForMs);
  if (spool === undefined) {
    // Before the first line is taken: a wrong token or server must not cost a line.
    await checkOpen(session, stream, retries);
    await ship(session, options, retries, new MemoryBacklog(bufferBytes, limits));
    return;
  }
  const onNote = (message: string): void => {
    out.note(message);
  };
  const backlog = await Spool.open({ ...spool, stream, limits, signal, onNote });
  try {
    if (backlog.waiting > 0)
      out.note(`sending ${plural(backlog.waiting, "line")} of an earlier push from ${spool.path}`);
    await ship(session, options, retries, backlog);
  } finally {
    await backlog.close();
  }
}

async function checkOpen({ client, signal }: ClientSession, stream: string, retries: Retries): Promise<void> {
  const info = await retries.start(signal, () => findReadableStream(client, stream, signal));
  if (info?.sealed === true)
    throw new CliError("conflict", `stream "${stream}" is sealed: nothing can be appended any more`);
}

async function ship(
  session: ClientSession,
  { stream, input, longLines, seal, spool }: PushLinesOptions,
  retries: Retries,
  backlog: Backlog,
): Promise<void> {
  const { out } = session;
  const shipper = new LineShipper(session, { stream, longLines, limits, retries }, backlog);
  try {
    await shipper.run(input, seal);
  } catch (error) {
    const { stored } = shipper;
    if (error instanceof LineTooLongError) {
      throw new CliError(
        "usage",
        `${error.message}, which is the limit for a record; the ${plural(stored, "line")} before it ${stored === 1 ? "is" : "are"} stored`,
        { cause: error },
      );
    }
    const counts = countsOf(stored, backlog.waiting, spool?.path);
    if (shipper.interruptedBy !== undefined) throw new CliError(shipper.interruptedBy.exit, `interrupted: ${counts}`);
    out.note(counts);
    throw error;
  }
  const { stored, firstSeq, nextSeq, longLineCount, sealed } = shipper;
  if (longLineCount > 0) {
    const were = longLineCount === 1 ? "was" : "were";
    const what = longLines === "split" ? "split into several records" : "cut off";
    out.note(`${plural(longLineCount, "line")} longer than ${limits.maxBytes} bytes ${were} ${what}`);
  }
  await out.result(
    stored === 0
      ? `no lines, nothing appended to ${stream}${sealed ? ", sealed" : ""}`
      : `appended ${plural(stored, "line")} to ${stream}: seq ${firstSeq} to ${nextSeq - 1n}${sealed ? ", sealed" : ""}`,
    {
      stream,
      records: stored,
      firstSeq: firstSeq === undefined ? null : Number(firstSeq),
      nextSeq: stored === 0 ? null : Number(nextSeq),
      sealed,
    },
  );
}

/** What has become of the lines, at an end that is not clean. */
function countsOf(stored: number, waiting: number, spool: string | undefined): string {
  const done = `${plural(stored, "line")} ${stored === 1 ? "is" : "are"} stored`;
  if (waiting === 0) return done;
  return spool === undefined
    ? `${done}; ${plural(waiting, "line")} that followed may be lost`
    : `${done}; ${plural(waiting, "line")} that followed ${waiting === 1 ? "waits" : "wait"} in ${spool} for the next push with it`;
}
