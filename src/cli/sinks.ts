import { timestampMs } from "@bufbuild/protobuf/wkt";
import { createHash } from "node:crypto";
import { open, stat } from "node:fs/promises";
import { resolve } from "node:path";
import type { ReadRecord, StreamInfo } from "../client/index.ts";
import { CliError, fileError } from "./failure.ts";
import type { Output } from "./output.ts";
import { PartFile } from "./part-file.ts";
import { recordJson } from "./records.ts";

/** Where a pull puts the data. */
export interface Sink {
  /** The seq to begin with, and how many bytes are there already. */
  readonly seq: number;
  readonly offset: number;
  add(record: ReadRecord, separator: Uint8Array): Promise<void>;
  /** Of everything from the first record on. */
  digest(): Buffer;
  /** The copy is whole, and right as far as can be told. */
  finish(): Promise<void>;
  /** It is not what the checksum says. Returns the sentence that tells where it is. */
  reject(): Promise<string>;
  /** Keeps what there is for the next time. Returns the sentence that says so. */
  suspend(): Promise<string>;
  close(): Promise<void>;
}

/** A file, copied to `FILE.part` first; a device or a pipe is written to as it is. */
export async function openFile(output: string, info: StreamInfo, lines: boolean): Promise<Sink> {
  const stats = await stat(output).catch(() => undefined);
  if (stats?.isDirectory() === true) {
    throw new CliError("usage", `${output} is a directory: give the name of a file in it`);
  }
  if (stats !== undefined && !stats.isFile()) return openDevice(output, Number(info.head));
  const created = info.createTime === undefined ? 0 : timestampMs(info.createTime);
  const source = JSON.stringify([info.name, created, Number(info.head), lines]);
  const part = await PartFile.open(resolve(output), source, Number(info.head));
  return {
    seq: part.seq,
    offset: part.offset,
    add: (record, separator) => part.add(Number(record.seq), record.data, separator),
    digest: () => part.digest(),
    finish: () => part.finish(),
    async reject() {
      await part.forget();
      return `: look at ${output}.part, or pull again to begin anew`;
    },
    async suspend() {
      await part.mark().catch(() => undefined);
      return ": run the same command again to go on where it stopped";
    },
    close: () => part.close(),
  };
}

async function openDevice(path: string, firstSeq: number): Promise<Sink> {
  const file = await open(path, "w").catch((error: unknown) => {
    throw fileError(path, "written", error);
  });
  return toStream(firstSeq, {
    write: async (data) => {
      for (let done = 0; done < data.byteLength;) {
        const { bytesWritten } = await file.write(data, done).catch((error: unknown) => {
          throw fileError(path, "written", error);
        });
        done += bytesWritten;
      }
    },
    close: () => file.close(),
  });
}

/** Standard output: the data, or with `--json` a line for each record. */
export function openStdout(out: Output, firstSeq: number): Sink {
  const sink = toStream(firstSeq, {
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
    digest: () => hash.copy().digest(),
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
function toStream(firstSeq: number, target: { write(data: Uint8Array): Promise<void>; close(): Promise<void> }): Sink {
  const hash = createHash("sha256");
  return {
    seq: firstSeq,
    offset: 0,
    async add({ data }, separator) {
      hash.update(data);
      await target.write(data);
      if (separator.byteLength > 0) await target.write(separator);
    },
    digest: () => hash.copy().digest(),
    finish: () => Promise.resolve(),
    reject: () => Promise.resolve(": what was written is wrong"),
    suspend: () => Promise.resolve(""),
    close: () => target.close(),
  };
}
