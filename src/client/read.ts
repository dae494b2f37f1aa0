import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import { ReadRequestSchema } from "../../gen/data/v1/data_pb.ts";
import type { DataService, ReadResponse, Sealed } from "../../gen/data/v1/data_pb.ts";
import { linkSignals, reasonOf } from "../async/signals.ts";
import { fromBatch, toFrom, uidOf } from "./records.ts";
import type { ReadFrom, ReadRecord } from "./records.ts";
import { Backoff } from "./retry.ts";
import type { OnRetry, RetryOptions } from "./retry.ts";

export interface ReadOptions {
  /** Default: the oldest record kept. */
  readonly from?: ReadFrom;
  /** Whether to wait for more records at the tail. Default: false. */
  readonly follow?: boolean;
  /** Ends after this many records. */
  readonly maxRecords?: number;
  /** Ends before the data would exceed this, in bytes. */
  readonly maxBytes?: number;
  /**
   * How often the server is to show that it is alive, in milliseconds, at least
   * 1,000. After 2.5 times that without a word the connection counts as broken. Default 10,000.
   */
  readonly heartbeatIntervalMs?: number;
  readonly signal?: AbortSignal;
  /** Called each time that every record there is has been seen. */
  readonly onCaughtUp?: (tail: bigint) => void;
  /** Called when a sealed stream has been read to its end. */
  readonly onSealed?: (sealed: Pick<Sealed, "tail" | "sha256" | "sha256FirstSeq">) => void;
  readonly onRetry?: OnRetry;
  readonly retry?: Partial<RetryOptions>;
}

const defaultHeartbeatMs = 10_000;
const missedHeartbeats = 2.5;

/**
 * Reads records, and goes on by itself, behind the last one, when the connection
 * breaks; in the same stream only: if it was deleted and made again meanwhile,
 * it fails with STREAM_REPLACED. Leaving the loop cancels the call.
 */
export async function* readRecords(
  rpc: Client<typeof DataService>,
  stream: string,
  options: ReadOptions,
): AsyncGenerator<ReadRecord, void, undefined> {
  const { follow = false, signal, heartbeatIntervalMs = defaultHeartbeatMs } = options;
  const backoff = new Backoff(options.retry, options.onRetry);
  let from = await withRetry(backoff, signal, () => settleStart(rpc, stream, options.from, follow, signal));
  let uid = uidOf(from);
  let records = options.maxRecords ?? Infinity;
  let bytes = options.maxBytes ?? Infinity;
  let first = true;
  while (records > 0 && bytes > 0) {
    const call = linkSignals(signal);
    const request = create(ReadRequestSchema, {
      stream,
      from: toFrom(from),
      expectedUid: uid,
      follow,
      ...(records === Infinity ? {} : { maxRecords: BigInt(records) }),
      ...(bytes === Infinity ? {} : { maxBytes: BigInt(bytes) }),
      ...(follow ? { heartbeatInterval: durationFromMs(heartbeatIntervalMs) } : {}),
    });
    const responses = rpc.read(request, { signal: call.signal })[Symbol.asyncIterator]();
    try {
      for (;;) {
        const result = await nextWithin(responses, call, follow ? heartbeatIntervalMs * missedHeartbeats : Infinity);
        if (result.done === true) return;
        backoff.reset();
        const { message, streamUid } = result.value;
        if (streamUid !== "") uid = streamUid;
        switch (message.case) {
          case "batch":
            for (const record of fromBatch(message.value, uid)) {
              if (record.data.byteLength > bytes && !first) return;
              first = false;
              from = { seq: record.seq + 1n };
              records--;
              bytes -= record.data.byteLength;
              yield record;
            }
            break;
          case "caughtUp":
            from = { seq: message.value.tail };
            options.onCaughtUp?.(message.value.tail);
            break;
          case "sealed":
            options.onSealed?.(message.value);
            return;
          case "heartbeat":
          case undefined:
            break;
        }
      }
    } catch (error) {
      if (signal?.aborted === true) throw reasonOf(signal);
      await backoff.wait(error, signal);
    } finally {
      // Also when the consumer has left: the call must not go on.
      call.abort(new ConnectError("the read was left", Code.Canceled));
      responses.return?.().catch(() => undefined);
    }
  }
}

/** Positions that move with the tail are looked up once, so that a second attempt misses nothing. */
async function settleStart(
  rpc: Client<typeof DataService>,
  stream: string,
  from: ReadFrom | undefined,
  follow: boolean,
  signal: AbortSignal | undefined,
): Promise<ReadFrom | undefined> {
  const offset =
    from === "tail" ? 0n : typeof from === "object" && "tailOffset" in from ? BigInt(from.tailOffset) : undefined;
  if (offset === undefined || !follow) return from;
  const { stream: info } = await rpc.getStream({ name: stream }, signal === undefined ? {} : { signal });
  if (info === undefined) return from;
  const seq = info.tail - offset;
  return { seq: seq < info.head ? info.head : seq, uid: info.uid };
}

async function withRetry<T>(backoff: Backoff, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      await backoff.wait(error, signal);
    }
  }
}

/** The next response; a connection that is silent for too long counts as broken. */
async function nextWithin(
  responses: AsyncIterator<ReadResponse>,
  call: { abort: (reason: unknown) => void },
  ms: number,
): Promise<IteratorResult<ReadResponse>> {
  if (ms === Infinity) return responses.next();
  let silent: ConnectError | undefined;
  const timer = setTimeout(() => {
    silent = new ConnectError("the server has been silent for too long", Code.Unavailable);
    call.abort(silent);
  }, ms);
  try {
    return await responses.next();
  } catch (error) {
    throw silent ?? error;
  } finally {
    clearTimeout(timer);
  }
}
