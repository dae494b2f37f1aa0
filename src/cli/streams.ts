import { Code, ConnectError } from "@connectrpc/connect";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { SluiceClient, StreamInfo } from "../client/index.ts";
import { toHex } from "./format.ts";
import type { JsonObject } from "./output.ts";

/** The stream, or undefined if there is none. Fails at once if the server cannot be reached. */
export async function findStream(
  { data }: SluiceClient,
  name: string,
  signal: AbortSignal,
): Promise<StreamInfo | undefined> {
  try {
    return await data.getStream(name, { signal });
  } catch (error) {
    if (ConnectError.from(error).code === Code.NotFound) return undefined;
    throw error;
  }
}

/**
 * As `findStream`, for a token that may only write, too: it gets undefined for a
 * stream that exists.
 */
export async function findReadableStream(
  client: SluiceClient,
  name: string,
  signal: AbortSignal,
): Promise<StreamInfo | undefined> {
  try {
    return await findStream(client, name, signal);
  } catch (error) {
    if (ConnectError.from(error).code === Code.PermissionDenied) return undefined;
    throw error;
  }
}

/** A stream as `--json` shows it. Positions are numbers: they stay below 2^53. */
export function streamJson(stream: StreamInfo): JsonObject {
  const { retention } = stream;
  return {
    name: stream.name,
    uid: stream.uid,
    head: Number(stream.head),
    tail: Number(stream.tail),
    bytes: Number(stream.bytes),
    sealed: stream.sealed,
    sha256: stream.sha256.length === 0 ? null : toHex(stream.sha256),
    sha256FirstSeq: stream.sha256.length === 0 ? null : Number(stream.sha256FirstSeq),
    createTime: stream.createTime === undefined ? null : timestampDate(stream.createTime).toISOString(),
    appendTime: stream.appendTime === undefined ? null : timestampDate(stream.appendTime).toISOString(),
    retention: {
      maxAgeMs: retention?.maxAge === undefined ? null : durationMs(retention.maxAge) || null,
      maxBytes: Number(retention?.maxBytes ?? 0) || null,
      maxRecords: Number(retention?.maxRecords ?? 0) || null,
    },
    metadata: stream.metadata,
  };
}
