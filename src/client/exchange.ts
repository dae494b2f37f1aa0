import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import { ExchangeRequestSchema } from "../../gen/data/v1/data_pb.ts";
import type { DataService, ExchangeRequest } from "../../gen/data/v1/data_pb.ts";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ExchangeRequest_ReadSchema } from "../../gen/data/v1/data_pb.ts";
import { BoundedQueue } from "../async/queue.ts";
import { linkSignals } from "../async/signals.ts";
import type { Ack } from "./appender.ts";
import { claimProducer } from "./claim-producer.ts";
import { fromBatch, toFrom, toMessages, uidOf } from "./records.ts";
import type { ReadFrom, ReadRecord, RecordInit } from "./records.ts";

export interface ExchangeOptions {
  readonly createIfMissing?: boolean;
  /**
   * Who appends, unique in the stream. The call claims it: whoever appended under it before is fenced. Default: nobody,
   * and the batches are not numbered.
   */
  readonly producerId?: string;
  /** For a program that sends the same batches again on purpose: it claims nothing, and they are stored once. */
  readonly epoch?: bigint | number;
  /** Only in the stream with this uid. Default: any. */
  readonly expectedUid?: string;
  /** What to read on the same call, of the same stream. Default: nothing. */
  readonly read?: {
    readonly from?: ReadFrom;
    /** Whether to wait for more records at the tail. Default: true. */
    readonly follow?: boolean;
    /** Milliseconds, at least 1,000. Default: the server's. */
    readonly heartbeatIntervalMs?: number;
  };
  readonly signal?: AbortSignal;
}

/** What the server says on an Exchange, besides acks. */
export type ExchangeEvent =
  | { readonly kind: "opened"; readonly tail: bigint; readonly uid: string }
  | { readonly kind: "record"; readonly record: ReadRecord }
  | { readonly kind: "caughtUp"; readonly tail: bigint }
  | { readonly kind: "heartbeat"; readonly tail: bigint }
  | { readonly kind: "sealed"; readonly tail: bigint };

/**
 * One bidi call that appends and reads, as a chat does. It does not go on by
 * itself after a broken connection: `read` and `appender` do.
 */
export interface DataExchange {
  /** Resolves once the records are durable. Events must be taken for it to make progress. */
  send(records: readonly RecordInit[]): Promise<Ack>;
  /** Ends with the call; fails if the call does. Leaving the loop cancels the call. */
  readonly events: AsyncIterable<ExchangeEvent>;
  /** Sends no more; a following read goes on. */
  end(): void;
  /** Cancels the call. */
  close(): void;
}

/** Batches that wait to be sent, before `send` waits. */
const maxUnsent = 64;

/** Opens an Exchange. Needs HTTP/2. */
export function openExchange(rpc: Client<typeof DataService>, stream: string, options: ExchangeOptions): DataExchange {
  const readUid = uidOf(options.read?.from);
  let uid = options.expectedUid || readUid;
  if (readUid !== "" && uid !== readUid) {
    throw new TypeError(`expectedUid is ${uid}, but the checkpoint to read from is of ${readUid}`);
  }
  const call = linkSignals(options.signal);
  const unsent = new BoundedQueue<ExchangeRequest>(maxUnsent);
  const unacked: PromiseWithResolvers<Ack>[] = [];
  const { producerId } = options;
  let producerSeq = 0n;
  let over: Error | undefined;

  async function producerOf(): Promise<{ id: string; epoch: bigint } | undefined> {
    if (producerId === undefined) return undefined;
    if (options.epoch !== undefined) return { id: producerId, epoch: BigInt(options.epoch) };
    const { createIfMissing = false } = options;
    const { signal } = call;
    const claim = await claimProducer(rpc, stream, producerId, { createIfMissing, expectedUid: uid, signal });
    uid = claim.streamUid;
    return { id: producerId, epoch: claim.epoch };
  }

  async function* requests(): AsyncGenerator<ExchangeRequest, void, undefined> {
    const producer = await producerOf();
    yield create(ExchangeRequestSchema, {
      message: {
        case: "open",
        value: {
          stream,
          createIfMissing: options.createIfMissing ?? false,
          expectedUid: uid,
          ...(producer === undefined ? {} : { producer }),
          ...(options.read === undefined ? {} : { read: toRead(options.read) }),
        },
      },
    });
    yield* unsent;
  }

  function finish(error: Error): void {
    over ??= error;
    unsent.fail(error);
    for (const { reject } of unacked.splice(0)) reject(error);
  }

  async function* events(): AsyncGenerator<ExchangeEvent, void, undefined> {
    try {
      for await (const { message } of rpc.exchange(requests(), { signal: call.signal })) {
        switch (message.case) {
          case "ack":
            unacked.shift()?.resolve({ ...message.value, uid });
            break;
          case "opened":
            uid = message.value.streamUid;
            yield { kind: "opened", tail: message.value.tail, uid };
            break;
          case "batch":
            for (const record of fromBatch(message.value, uid)) yield { kind: "record", record };
            break;
          case undefined:
            break;
          default:
            yield { kind: message.case, tail: message.value.tail };
        }
      }
      finish(new ConnectError("the call has ended", Code.Canceled));
    } catch (error) {
      finish(ConnectError.from(error));
      throw error;
    } finally {
      call.abort();
      finish(new ConnectError("the exchange was left", Code.Canceled));
    }
  }

  return {
    async send(records) {
      if (over !== undefined) throw over;
      const ack = Promise.withResolvers<Ack>();
      unacked.push(ack);
      // Whoever waits for the ack gets its failure; nobody needs to.
      ack.promise.catch(() => undefined);
      await unsent.push(
        create(ExchangeRequestSchema, {
          message: {
            case: "append",
            value: {
              records: toMessages(records),
              ...(producerId === undefined ? {} : { producerSeq: producerSeq++ }),
            },
          },
        }),
      );
      return ack.promise;
    },
    events: events(),
    end: () => {
      unsent.end();
    },
    close: () => {
      call.abort(new ConnectError("the exchange was closed", Code.Canceled));
    },
  };
}

function toRead(read: NonNullable<ExchangeOptions["read"]>): MessageInitShape<typeof ExchangeRequest_ReadSchema> {
  const { from, follow = true, heartbeatIntervalMs } = read;
  return {
    from: toFrom(from),
    follow,
    ...(heartbeatIntervalMs === undefined ? {} : { heartbeatInterval: durationFromMs(heartbeatIntervalMs) }),
  };
}
