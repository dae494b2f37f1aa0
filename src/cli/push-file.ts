import { ConnectError } from "@connectrpc/connect";
import { createHash } from "node:crypto";
import { dataErrorOf, isBroken } from "../client/index.ts";
import type { SluiceClient, StreamInfo } from "../client/index.ts";
import { DataError_Reason as Reason } from "../../gen/data/v1/data_pb.ts";
import { CliError } from "./failure.ts";
import { FileSource, openLocalFile } from "./file-source.ts";
import type { LocalFile } from "./file-source.ts";
import { formatSize, toHex } from "./format.ts";
import { Retries } from "./retries.ts";
import type { ClientSession } from "./session.ts";
import { findStream } from "./streams.ts";

export interface PushFileOptions {
  readonly stream: string;
  readonly path: string;
  /** Size of a record; an interrupted push goes on with the size it began with. */
  readonly chunkBytes: number;
  readonly seal: boolean;
  /** How long an outage may last; undefined for the client's own number of attempts. */
  readonly retryForMs: number | undefined;
}

/** What another push to the same stream, at the same time, can lead to: a second look tells what to do. */
const overtaken: ReadonlySet<number | undefined> = new Set([
  Reason.STREAM_SEALED,
  Reason.SEQ_MISMATCH,
  Reason.PRODUCER_GAP,
  Reason.PRODUCER_REPEAT_TOO_OLD,
]);
const maxLooks = 3;

/** Uploads a file, or the rest of it if an earlier push was interrupted. */
export async function pushFile(session: ClientSession, options: PushFileOptions): Promise<void> {
  // The file first: a wrong path needs no server.
  const file = await openLocalFile(options.path, session.signal);
  try {
    await pushOpened(session, options, file);
  } finally {
    await file.handle.close();
  }
}

async function pushOpened(session: ClientSession, options: PushFileOptions, file: LocalFile): Promise<void> {
  for (let look = 1; ; look++) {
    try {
      await pushOnce(session, options, file);
      return;
    } catch (error) {
      const reason = dataErrorOf(error)?.reason;
      if (overtaken.has(reason) && look < maxLooks) continue;
      if (reason !== Reason.PRODUCER_GAP) throw error;
      // The stream holds the beginning of this file, but the server has forgotten who pushed it (--producer-ttl).
      throw new CliError(
        "conflict",
        `an earlier push of ${options.path} to stream "${options.stream}" was interrupted too long ago to go on with it. ${startOver(options)}`,
        { cause: error },
      );
    }
  }
}

async function pushOnce(session: ClientSession, options: PushFileOptions, file: LocalFile): Promise<void> {
  const { client, signal } = session;
  const retries = new Retries(session.out, options.retryForMs);
  const info = await retries.start(signal, () => findStream(client, options.stream, signal));
  const stored = info === undefined ? undefined : await firstHeaders(client, info, signal);
  const source = new FileSource(file, Number(stored?.["chunk-bytes"] ?? options.chunkBytes));
  if (info?.sealed === true) {
    await compareSealed(session, options, info, source);
    return;
  }
  if (info !== undefined && stored !== undefined) refuseOther(options, info, stored, source);
  await upload(session, options, info, source);
}

function startOver({ stream }: PushFileOptions): string {
  return `To start over, run \`sluice streams delete ${stream}\` first, or push to another stream`;
}

/** The headers of the first record; undefined if the stream is empty. */
async function firstHeaders(
  { data }: SluiceClient,
  info: StreamInfo,
  signal: AbortSignal,
): Promise<Record<string, string> | undefined> {
  if (info.head > 0n) {
    throw new CliError(
      "conflict",
      `the beginning of stream "${info.name}" has been removed: push the file to another one`,
    );
  }
  for await (const { headers } of data.read(info.name, { from: "head", maxRecords: 1, signal })) {
    const chunkBytes = Number(headers["chunk-bytes"]);
    if (headers["file-size"] === undefined || !(chunkBytes >= 1)) {
      throw new CliError(
        "conflict",
        `stream "${info.name}" holds records that are no pushed file: push the file to another one`,
      );
    }
    return headers;
  }
  return undefined;
}

/** Fails unless the stream holds the beginning of this very file. */
function refuseOther(
  options: PushFileOptions,
  { tail }: StreamInfo,
  stored: Record<string, string>,
  source: FileSource,
): void {
  const { stream, path } = options;
  const { "file-name": name = "?", "file-size": size, "file-mtime-ns": mtime } = stored;
  if (name !== source.headers["file-name"] || size !== source.headers["file-size"]) {
    throw new CliError(
      "conflict",
      `stream "${stream}" holds the beginning of another file, ${name} of ${size} bytes; ${path} has ${source.size}. ${startOver(options)}`,
    );
  }
  if (mtime !== source.headers["file-mtime-ns"] || Number(tail) > source.chunkCount) {
    throw new CliError(
      "conflict",
      `${path} has been changed since an earlier push of it to stream "${stream}" was interrupted. ${startOver(options)}`,
    );
  }
}

async function compareSealed(
  { out, signal }: ClientSession,
  options: PushFileOptions,
  info: StreamInfo,
  source: FileSource,
): Promise<void> {
  const { stream, path } = options;
  const comparable = info.sha256.length > 0 && info.sha256FirstSeq === 0n;
  const progress = out.progress("comparing", source.size);
  const sha256 = await source
    .sha256(signal, (done) => {
      progress.update(done);
    })
    .finally(() => {
      progress.stop();
    });
  if (!comparable || !Buffer.from(info.sha256).equals(sha256)) {
    const what = comparable ? "another file" : "records without a checksum";
    throw new CliError("conflict", `stream "${stream}" is sealed, and holds ${what}: push ${path} to another stream`);
  }
  await out.result(`${path} is in ${stream} already, whole and sealed: nothing to do`, {
    ...summary(options, source, Number(info.tail)),
    sealed: true,
    sha256: toHex(sha256),
    alreadyPushed: true,
  });
}

async function upload(
  session: ClientSession,
  options: PushFileOptions,
  info: StreamInfo | undefined,
  source: FileSource,
): Promise<void> {
  const { client, out, signal } = session;
  const { stream, path, seal, retryForMs } = options;
  const startMs = performance.now();
  const resumedAt = Number(info?.tail ?? 0n);
  const startBytes = source.offsetOf(resumedAt);
  if (resumedAt > 0) out.note(`going on where an earlier push stopped, at ${formatSize(startBytes)}`);
  const progress = out.progress(path, source.size, startBytes);
  try {
    if (info === undefined) await storeFirst(session, options, source);
    await client.data.upload(
      stream,
      async function* (fromSeq) {
        let index = Number(fromSeq);
        for await (const data of source.chunks(index, signal)) {
          yield { data, ...(index === 0 ? { headers: source.headers } : {}) };
          progress.update(source.offsetOf(++index));
        }
      },
      {
        createIfMissing: true,
        ...(info === undefined ? {} : { expectedUid: info.uid }),
        producerId: producerOf(stream, source),
        signal,
        onRetry: out.retry,
        ...(retryForMs === undefined ? {} : { retry: { attempts: Infinity, maxElapsedMs: retryForMs } }),
        ...(seal ? { seal: { sha256: () => source.sha256(signal) } } : {}),
      },
    );
  } catch (error) {
    if (signal.aborted) {
      throw new CliError("interrupted", "interrupted: run the same command again to go on where it stopped");
    }
    throw error;
  } finally {
    progress.stop();
  }
  // Without a seal the checksum is not asked for, so a change of the file would go unseen.
  const sha256 = toHex(await source.sha256(signal));
  const seconds = (performance.now() - startMs) / 1000;
  const rate = formatSize((source.size - startBytes) / Math.max(0.001, seconds));
  await out.result(
    `pushed ${path} to ${stream}: ${formatSize(source.size)} in ${seconds.toFixed(1)} s (${rate}/s), ${seal ? "sealed" : "not sealed"}
sha256 ${sha256}`,
    { ...summary(options, source, source.chunkCount), sealed: seal, sha256, resumedAtByte: startBytes, seconds },
  );
}

/** Stores the first chunk with a call of its own, because a server that refuses its size then makes no stream for it. */
async function storeFirst(
  { client, signal }: ClientSession,
  { stream }: PushFileOptions,
  source: FileSource,
): Promise<void> {
  for await (const data of source.chunks(0, signal)) {
    const producer = { id: producerOf(stream, source), epoch: 0n };
    const once = { createIfMissing: true, expectedSeq: 0, producer, producerSeq: 0, signal };
    try {
      await client.data.append(stream, [{ data, headers: source.headers }], once);
    } catch (error) {
      // The upload finds out whether it is stored, and tries again.
      if (!isBroken(ConnectError.from(error))) throw error;
    }
    return;
  }
}

/** The same for every push of the same file to the same stream, so that none stores a chunk twice. */
function producerOf(stream: string, { headers }: FileSource): string {
  const identity = createHash("sha256")
    .update(JSON.stringify([stream, headers]))
    .digest("hex");
  return `push-${identity.slice(0, 32)}`;
}

function summary({ stream, path }: PushFileOptions, { size }: FileSource, records: number) {
  return { stream, file: path, bytes: size, records };
}
