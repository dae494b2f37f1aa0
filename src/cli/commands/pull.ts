import type { Command } from "commander";
import type { StreamInfo } from "../../client/index.ts";
import { CliError } from "../failure.ts";
import { formatSize, toHex } from "../format.ts";
import type { Progress } from "../output.ts";
import { withClient } from "../session.ts";
import type { ClientSession } from "../session.ts";
import { openFile, openStdout } from "../sinks.ts";
import type { Sink } from "../sinks.ts";

export function pull(program: Command): void {
  const command = program
    .command("pull")
    .description("copy a stream's data to a file or to standard output, and check its checksum")
    .argument("<stream>", "name of the stream")
    .option("-o, --output <file>", "file to write; - for standard output", "-")
    .option("--lines", "write a newline after each record, as for a stream of lines")
    .addHelpText(
      "after",
      `
The copy grows in the directory .FILE.sluice-part beside FILE, is read again to
check it, and takes FILE's place when it is whole. If the pull is interrupted, the
same command goes on where it stopped. One pull at a time writes a FILE.

An existing FILE keeps its mode and its owner, and a link is followed, as with cp.
A FILE with hard links, or whose owner cannot be kept, is written in place instead,
after the check. A device or a pipe is written to as it is.

A stream that is not sealed is copied up to its tail.

Examples:
  $ sluice pull backup/db.dump -o copy.dump
  $ sluice pull logs/host1 --lines | grep error`,
    );
  withClient(command, run);
}

interface Seal {
  readonly sha256: Uint8Array;
  readonly sha256FirstSeq: bigint;
}

async function run(session: ClientSession): Promise<void> {
  const { client, out, args, flags, signal } = session;
  const name = args[0] as string;
  const output = String(flags["output"]);
  if (output === "") throw new CliError("usage", "--output must be the name of a file, or - for standard output");
  const separator = new TextEncoder().encode(flags["lines"] === true ? "\n" : "");
  const info = await client.data.getStream(name, { signal });
  const head = Number(info.head);
  const toFile = output !== "-";
  const sink = toFile ? await openFile(output, info, separator, signal) : openStdout(out, head, separator);
  try {
    if (sink.offset > 0) out.note(`going on where an earlier pull stopped, at ${formatSize(sink.offset)}`);
    const startMs = performance.now();
    const startBytes = sink.offset;
    // A bar would run through the data on a terminal.
    const progress = toFile || !out.toTerminal ? out.progress(name, Number(info.bytes), startBytes) : undefined;
    const { seal, bytes, tail } = await copy(session, info, sink, separator.byteLength, progress);
    const digest = await sink.digest();
    const checked = await check(name, seal, head, digest, sink);
    await sink.finish(digest);
    const sha256 = toHex(digest);
    const seconds = (performance.now() - startMs) / 1000;
    const note = notes(seal, checked);
    if (!toFile) {
      if (note !== undefined) out.note(`${name}: ${note}`);
      return;
    }
    const rate = formatSize((bytes - startBytes) / Math.max(0.001, seconds));
    await out.result(
      `pulled ${name} to ${output}: ${formatSize(bytes)} in ${seconds.toFixed(1)} s (${rate}/s)${note === undefined ? ", checksum right" : `; ${note}`}
sha256 ${sha256}`,
      {
        stream: name,
        file: output,
        bytes,
        firstSeq: head,
        nextSeq: tail,
        sealed: seal !== undefined,
        checked,
        sha256,
        resumedAtByte: startBytes,
        seconds,
      },
    );
  } finally {
    await sink.close();
  }
}

async function copy(
  { client, out, signal }: ClientSession,
  info: StreamInfo,
  sink: Sink,
  separatorBytes: number,
  progress: Progress | undefined,
): Promise<{ seal: Seal | undefined; bytes: number; tail: number }> {
  let seal: Seal | undefined;
  let bytes = sink.offset;
  let tail = sink.seq;
  try {
    const records = client.data.read(info.name, {
      from: { seq: BigInt(sink.seq), uid: info.uid },
      follow: false,
      signal,
      onSealed: (end) => {
        seal = end;
      },
      onRetry: out.retry,
    });
    for await (const record of records) {
      const total = Number(record.headers["file-size"] ?? NaN);
      await sink.add(record);
      bytes += record.data.byteLength + separatorBytes;
      tail = Number(record.seq) + 1;
      progress?.update(bytes, record.seq === info.head && total > 0 ? total : undefined);
    }
    signal.throwIfAborted();
  } catch (error) {
    const kept = await sink.suspend();
    if (!signal.aborted) throw error;
    throw new CliError("interrupted", `interrupted${kept}`);
  } finally {
    progress?.stop();
  }
  // A stream whose last record was there already tells nothing more.
  if (seal === undefined && info.sealed) seal = info;
  return { seal, bytes, tail };
}

/** Whether the checksum could be compared; fails if it differs. */
async function check(
  name: string,
  seal: Seal | undefined,
  firstSeq: number,
  actual: Buffer,
  sink: Sink,
): Promise<boolean> {
  if (seal === undefined || seal.sha256.length === 0 || Number(seal.sha256FirstSeq) !== firstSeq) return false;
  if (actual.equals(seal.sha256)) return true;
  const where = await sink.reject();
  throw new CliError(
    "mismatch",
    `the data of ${name} has SHA-256 ${toHex(actual)}, but was sealed with ${toHex(seal.sha256)}${where}`,
  );
}

function notes(seal: Seal | undefined, checked: boolean): string | undefined {
  if (seal === undefined) return "it is not sealed, so more may follow, and there is no checksum to compare";
  if (checked) return undefined;
  return seal.sha256.length === 0
    ? "it is sealed without a checksum to compare"
    : `its checksum covers the records from seq ${seal.sha256FirstSeq} on only, and was not compared`;
}
