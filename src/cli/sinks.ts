import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import type { ReadRecord, StreamInfo } from "../client/index.ts";
import { openDevice } from "./device.ts";
import type { Device } from "./device.ts";
import { CliError } from "./failure.ts";
import type { Output } from "./output.ts";
import { PartFile } from "./part-file.ts";
import { recordJson } from "./records.ts";

/** Where a pull puts the data. */
export interface Sink {
  /** The seq to begin with, and how many bytes are there already. */
  readonly seq: number;
  readonly offset: number;
  add(record: ReadRecord): Promise<void>;
  /** SHA-256 of the data from the first record on. Of a file it is read again: it is that of what was written. */
  digest(): Promise<Buffer>;
  /** The copy is whole, and right as far as can be told. `digest` is its own. */
  finish(digest: Buffer): Promise<void>;
  /** It is not what the checksum says. Returns the sentence that tells where it is. */
  reject(): Promise<string>;
  /** Keeps what there is for the next time. Returns the sentence that says so. */
  suspend(): Promise<string>;
  close(): Promise<void>;
}

/** A file, whose copy grows beside it until it is whole; a device or a pipe is written to as it is. */
export async function openFile(
  output: string,
  info: StreamInfo,
  separator: Uint8Array,
  signal: AbortSignal,
): Promise<Sink> {
  const stats = await stat(output).catch(() => undefined);
  if (stats?.isDirectory() === true) {
    throw new CliError("usage", `${output} is a directory: give the name of a file in it`);
  }
  if (stats !== undefined && !stats.isFile()) {
    return toStream(Number(info.head), separator, await openDevice(output, signal));
  }
  const source = JSON.stringify([info.name, info.uid, Number(info.head), separator.byteLength > 0]);
  const part = await PartFile.open({ output, source, firstSeq: Number(info.head), separator, signal });
  return {
    seq: part.seq,
    offset: part.offset,
    add: (record) => part.add(Number(record.seq), record.data),
    digest: () => part.digest(),
    finish: (digest) => part.finish(digest),
    async reject() {
      await part.forget();
      return `: look at ${part.path}, or pull again to begin anew`;
    },
    async suspend() {
      await part.mark().catch(() => undefined);
      return ": run the same command again to go on where it stopped";
    },
    close: () => part.close(),
  };
}

/** Standard output: the data, or with `--json` a line for each record. */
export function openStdout(out: Output, firstSeq: number, separator: Uint8Array): Sink {
  const sink = toStream(firstSeq, separator, {
    async write(data) {
      if (out.toTerminal) refuseBinary(data);
      await out.write(data);
    },
    close: () => Promise.resolve(),
  });
  if (!out.json) return sink;
  // Data and JSON do not mix: every record becomes a line.
  const hash = createHash("sha256");
  return {
    ...sink,
    async add(record) {
      hash.update(record.data);
      await out.result("", recordJson(record));
    },
    digest: () => Promise.resolve(hash.copy().digest()),
  };
}

/** On a terminal nobody's data may move the cursor, or worse. */
function refuseBinary(data: Uint8Array): void {
  // eslint-disable-next-line no-control-regex -- control characters are what this is about
  if (!/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/.test(Buffer.from(data).toString("latin1"))) return;
  throw new CliError(
    "usage",
    "the data is not text, and would garble the terminal: give -o FILE, or pipe it elsewhere",
  );
}

/** A sink that cannot go back: nothing is kept for another time. */
function toStream(firstSeq: number, separator: Uint8Array, target: Device): Sink {
  const hash = createHash("sha256");
  return {
    seq: firstSeq,
    offset: 0,
    async add({ data }) {
      hash.update(data);
      await target.write(data);
      if (separator.byteLength > 0) await target.write(separator);
    },
    digest: () => Promise.resolve(hash.copy().digest()),
    finish: () => Promise.resolve(),
    reject: () => Promise.resolve(": what was written is wrong"),
    suspend: () => Promise.resolve(""),
    close: () => target.close(),
  };
}
