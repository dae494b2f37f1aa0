import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import { DataError_Reason, ExchangeRequestSchema } from "../../gen/data/v1/data_pb.ts";
import type { DataService, ExchangeRequest, Record as RecordMessage } from "../../gen/data/v1/data_pb.ts";
import { linkSignals, onAbort } from "../async/signals.ts";
import { claimProducer } from "./claim-producer.ts";
import { dataErrorOf } from "./errors.ts";
import { sizeOfMessages, toMessages } from "./records.ts";
import type { RecordInit } from "./records.ts";
import { Backoff } from "./retry.ts";
import type { OnRetry, RetryOptions } from "./retry.ts";

export interface AppenderOptions {
  readonly createIfMissing?: boolean;
  /**
   * Who appends, unique in the stream, such as the name of the host. The appender claims it: whoever appended under it
   * before is fenced, and fails with PRODUCER_FENCED. Default: a random one.
   */
  readonly producerId?: string;
  /**
   * For a program that sends the same batches again on purpose, such as from a file or a log: it then claims nothing, and
   * numbers its batches from 0 within this epoch each time. Default: the server hands it out.
   */
  readonly epoch?: bigint | number;
  /** With `epoch`, the number of the first batch: for a program that goes on with what it has kept. Default 0. */
  readonly firstProducerSeq?: bigint | number;
  /** Store only if this is the tail. */
  readonly expectedSeq?: bigint | number;
  /**
   * Only in the stream with this uid. Default: the one that the appender finds first. Another one that is made under its
   * name fails with STREAM_REPLACED.
   */
  readonly expectedUid?: string;
  /** Batches that wait for their ack, beyond which `ready` waits. Default 64. */
  readonly maxInFlightBatches?: number;
  /** Their size in bytes, likewise. Default 4 MiB. */
  readonly maxInFlightBytes?: number;
  /** Ends the appender with its reason. */
  readonly signal?: AbortSignal;
  readonly onRetry?: OnRetry;
  readonly retry?: Partial<RetryOptions>;
}

/** Where a batch was stored. */
export interface Ack {
  readonly firstSeq: bigint;
  readonly nextSeq: bigint;
  /** The batch had been stored by an earlier attempt. */
  readonly duplicate: boolean;
  /** Of the stream; empty if the server is too old to tell it. With `nextSeq` it is a Checkpoint. */
  readonly uid: string;
}

/**
 * Appends batches to a stream, many in flight, each stored exactly once: after a
 * broken connection those without an ack are sent again, under the same numbers.
 * After a failure that is final, everything pending and everything later fails with it.
 */
export interface Appender {
  /** Resolves once the batch is durable. Call it again without waiting, but wait for `ready`. */
  append(records: readonly RecordInit[]): Promise<Ack>;
  /** Resolves when there is room for another batch. */
  ready(): Promise<void>;
  /** Ends the stream behind everything appended; with a SHA-256, only if the server finds it right. */
  seal(sha256?: Uint8Array): Promise<Ack>;
  /** Resolves when everything appended is durable. */
  flush(): Promise<void>;
  /** As `flush`, and ends the call. */
  close(): Promise<void>;
  /** Ends at once: what is pending fails. */
  abort(reason?: unknown): void;
}

interface Entry {
  readonly records: RecordMessage[];
  producerSeq: bigint;
  /** Whether it is the first batch of all, for which the caller may expect a seq. */
  readonly first: boolean;
  readonly bytes: number;
  readonly seal: { readonly sha256: Uint8Array } | undefined;
  readonly resolve: (ack: Ack) => void;
  readonly reject: (error: unknown) => void;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

const MiB = 1024 * 1024;

/** Whether requests and responses flow at the same time; a browser finds out when it calls. */
export type FullDuplex = boolean | (() => Promise<boolean>);

/** `fullDuplex` is false on HTTP/1.1 and over fetch: then batches go one at a time. */
export function createAppender(
  rpc: Client<typeof DataService>,
  stream: string,
  options: AppenderOptions,
  fullDuplex: FullDuplex,
): Appender {
  return new ResumingAppender(rpc, stream, options, fullDuplex);
}

class ResumingAppender implements Appender {
  readonly #rpc: Client<typeof DataService>;
  readonly #stream: string;
  readonly #options: AppenderOptions;
  readonly #fullDuplex: FullDuplex;
  readonly #producerId: string;
  /** Undefined until it is claimed. */
  #epoch: bigint | undefined;
  /** Of the stream; empty until it is known. */
  #uid: string;
  /** The seq behind everything that was acked. */
  #storedTo = 0n;
  readonly #ending = linkSignals();
  readonly #backoff: Backoff;
  readonly #stopListening: () => void;
  /** Without an ack, in order. */
  readonly #pending: Entry[] = [];
  #pendingBytes = 0;
  #nextProducerSeq = 0n;
  /** Above every number that has been sent under this epoch. */
  #sentTo = 0n;
  /** Whether the call that runs sends batches again, which may be stored already. */
  #resends = false;
  #count = 0;
  /** The server has forgotten the producer once, and with it where what this appender stored begins. */
  #forgotten = false;
  #state: "open" | "closing" | "closed" = "open";
  #failure: { error: unknown } | undefined;
  #running: Promise<void> | undefined;
  /** Wakes whoever waits in `#change`. */
  #wake: (() => void) | undefined;
  #waitingForRoom: Waiter[] = [];
  #waitingForFlush: Waiter[] = [];

  constructor(rpc: Client<typeof DataService>, stream: string, options: AppenderOptions, fullDuplex: FullDuplex) {
    this.#rpc = rpc;
    this.#stream = stream;
    this.#options = options;
    this.#fullDuplex = fullDuplex;
    this.#producerId = options.producerId ?? crypto.randomUUID();
    this.#nextProducerSeq = BigInt(options.firstProducerSeq ?? 0);
    // Nobody else has a random id.
    if (options.producerId === undefined || options.epoch !== undefined) this.#epoch = BigInt(options.epoch ?? 0);
    this.#uid = options.expectedUid ?? "";
    this.#backoff = new Backoff(options.retry, options.onRetry);
    this.#stopListening =
      options.signal === undefined
        ? () => undefined
        : onAbort(options.signal, (reason) => {
            this.#fail(reason);
          });
  }

  append(records: readonly RecordInit[]): Promise<Ack> {
    if (records.length === 0) return Promise.reject(new TypeError("a batch needs at least one record"));
    return this.#add(toMessages(records), undefined);
  }

  seal(sha256: Uint8Array = new Uint8Array()): Promise<Ack> {
    if (this.#forgotten && sha256.byteLength > 0) {
      const message =
        "the server has forgotten where this appender began (--producer-ttl): seal without a checksum, or check the stream with sealStream";
      return Promise.reject(new ConnectError(message, Code.FailedPrecondition));
    }
    return this.#add([], { sha256 });
  }

  ready(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    if (this.#hasRoom()) return Promise.resolve();
    return new Promise((resolve, reject) => this.#waitingForRoom.push({ resolve, reject }));
  }

  flush(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    if (this.#pending.length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => this.#waitingForFlush.push({ resolve, reject }));
  }

  async close(): Promise<void> {
    if (this.#state === "open") this.#state = "closing";
    this.#wake?.();
    await this.#running;
    this.#state = "closed";
    this.#stopListening();
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  abort(reason: unknown = new ConnectError("the appender was aborted", Code.Canceled)): void {
    this.#fail(reason);
  }

  #add(records: RecordMessage[], seal: Entry["seal"]): Promise<Ack> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    if (this.#state !== "open") return Promise.reject(new TypeError("the appender is closed"));
    const bytes = sizeOfMessages(records);
    return new Promise((resolve, reject) => {
      const first = this.#count++ === 0;
      this.#pending.push({ records, producerSeq: this.#nextProducerSeq++, first, bytes, seal, resolve, reject });
      this.#pendingBytes += bytes;
      this.#wake?.();
      this.#running ??= this.#run();
    });
  }

  #hasRoom(): boolean {
    const { maxInFlightBatches = 64, maxInFlightBytes = 4 * MiB } = this.#options;
    return this.#pending.length < maxInFlightBatches && this.#pendingBytes < maxInFlightBytes;
  }

  /** Sends what is pending, with as many calls as it takes, until the appender is closed. */
  async #run(): Promise<void> {
    while (this.#failure === undefined) {
      if (this.#pending.length === 0) {
        if (this.#state !== "open") return;
        await this.#change();
        continue;
      }
      try {
        if (this.#epoch === undefined) await this.#claim();
        this.#resends = (this.#pending[0]?.producerSeq ?? this.#sentTo) < this.#sentTo;
        await ((await this.#isFullDuplex()) ? this.#exchange() : this.#appendOne());
      } catch (error) {
        if (this.#isForgotten(error)) {
          this.#begin();
          continue;
        }
        // A call that ends while nothing is pending, as an idle one does after a while, has cost nothing.
        if (this.#pending.length === 0) continue;
        await this.#backoff.wait(error, this.#ending.signal).catch((final: unknown) => {
          this.#fail(final);
        });
      }
    }
  }

  /**
   * Whether the server has forgotten the producer, after a long silence, and nothing is lost by it: everything that was
   * sent before this call has been acked.
   */
  #isForgotten(error: unknown): boolean {
    if (this.#resends || this.#options.epoch !== undefined || this.#pending.length === 0) return false;
    const detail = dataErrorOf(error);
    return detail?.reason === DataError_Reason.PRODUCER_GAP && detail.nextProducerSeq === 0n;
  }

  async #claim(): Promise<void> {
    const { epoch, streamUid } = await claimProducer(this.#rpc, this.#stream, this.#producerId, {
      ...this.#target,
      signal: this.#ending.signal,
    });
    this.#epoch = epoch;
    this.#uid = streamUid;
  }

  /** Which stream is appended to, as the server is told: once it is known, no other one, and it is not made again. */
  get #target(): { createIfMissing: boolean; expectedUid: string } {
    return { createIfMissing: this.#options.createIfMissing ?? false, expectedUid: this.#uid };
  }

  /** Begins another epoch with what is pending. */
  #begin(): void {
    this.#forgotten = true;
    this.#epoch = undefined;
    this.#sentTo = 0n;
    this.#nextProducerSeq = 0n;
    for (const entry of this.#pending) entry.producerSeq = this.#nextProducerSeq++;
  }

  /** Who appends, as the server is told. */
  get #producer(): { id: string; epoch: bigint } {
    return { id: this.#producerId, epoch: this.#epoch ?? 0n };
  }

  async #isFullDuplex(): Promise<boolean> {
    return typeof this.#fullDuplex === "function" ? this.#fullDuplex() : this.#fullDuplex;
  }

  /** One call: sends everything pending from the first on, and what comes, and takes the acks. */
  async #exchange(): Promise<void> {
    const call = linkSignals(this.#ending.signal);
    try {
      for await (const { message } of this.#rpc.exchange(this.#requests(call.signal), { signal: call.signal })) {
        if (message.case === "opened") {
          this.#uid = message.value.streamUid;
          this.#requireStored(message.value.tail);
        } else if (message.case === "ack") this.#acked(message.value);
      }
      if (this.#pending.length > 0) throw new ConnectError("the server ended the call early", Code.Unavailable);
    } finally {
      call.abort();
      this.#wake?.();
    }
  }

  async *#requests(signal: AbortSignal): AsyncGenerator<ExchangeRequest, void, undefined> {
    yield create(ExchangeRequestSchema, {
      message: {
        case: "open",
        value: {
          stream: this.#stream,
          ...this.#target,
          producer: this.#producer,
          ...this.#expected(this.#pending[0]),
        },
      },
    });
    // By number, because acks take entries away at the front.
    let next = this.#pending[0]?.producerSeq ?? this.#nextProducerSeq;
    while (!signal.aborted) {
      const entry = this.#pending[Number(next - (this.#pending[0]?.producerSeq ?? next))];
      if (entry !== undefined) {
        next++;
        if (next > this.#sentTo) this.#sentTo = next;
        const { records, producerSeq, seal } = entry;
        yield create(ExchangeRequestSchema, {
          message: {
            case: "append",
            value: {
              records,
              producerSeq,
              ...(seal === undefined ? {} : { seal: true, sha256: seal.sha256 }),
            },
          },
        });
      } else if (this.#pending.length === 0 && this.#state !== "open") {
        return;
      } else {
        await this.#change();
      }
    }
  }

  /** Waits for more to send, an ack, or the end. There is one waiter: the loop, or the call that it makes. */
  async #change(): Promise<void> {
    await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#wake = undefined;
  }

  /** Without full duplex: one batch, one unary call. */
  async #appendOne(): Promise<void> {
    const [entry] = this.#pending;
    if (entry === undefined) return;
    const { records, producerSeq, seal } = entry;
    const { signal } = this.#ending;
    if (producerSeq >= this.#sentTo) this.#sentTo = producerSeq + 1n;
    const ack = await this.#rpc.append(
      {
        stream: this.#stream,
        records,
        ...this.#target,
        producer: this.#producer,
        producerSeq,
        ...(seal === undefined ? {} : { seal: true, sha256: seal.sha256 }),
        ...this.#expected(entry),
      },
      { signal },
    );
    this.#uid = ack.streamUid;
    if (!ack.duplicate) this.#requireStored(ack.firstSeq);
    this.#acked(ack);
  }

  /** What the caller expects holds for the first batch; that the others follow it is the producer's numbers' work. */
  #expected(entry: Entry | undefined): { expectedSeq?: bigint } {
    const { expectedSeq } = this.#options;
    return expectedSeq === undefined || entry?.first !== true ? {} : { expectedSeq: BigInt(expectedSeq) };
  }

  /** Fails if the tail shows that the server has come back without what it had acked. */
  #requireStored(tail: bigint): void {
    if (tail >= this.#storedTo) return;
    throw new ConnectError(
      `records of stream "${this.#stream}" were acknowledged up to seq ${this.#storedTo - 1n}, but its tail is ${tail}: the server has an older copy of its data`,
      Code.FailedPrecondition,
    );
  }

  #acked({ firstSeq, nextSeq, duplicate }: Omit<Ack, "uid">): void {
    const entry = this.#pending.shift();
    if (entry === undefined) throw new ConnectError("the server acked what was not sent", Code.Internal);
    this.#backoff.reset();
    this.#pendingBytes -= entry.bytes;
    if (nextSeq > this.#storedTo) this.#storedTo = nextSeq;
    entry.resolve({ firstSeq, nextSeq, duplicate, uid: this.#uid });
    while (this.#hasRoom() && this.#waitingForRoom.length > 0) this.#waitingForRoom.shift()?.resolve();
    if (this.#pending.length > 0) return;
    for (const { resolve } of this.#waitingForFlush.splice(0)) resolve();
    this.#wake?.();
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = { error };
    for (const { reject } of this.#pending.splice(0)) reject(error);
    for (const { reject } of [...this.#waitingForRoom.splice(0), ...this.#waitingForFlush.splice(0)]) reject(error);
    this.#pendingBytes = 0;
    this.#ending.abort(error);
    this.#wake?.();
  }
}
