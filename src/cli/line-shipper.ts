import type { Readable } from "node:stream";
import { DataError_Reason as Reason } from "../../gen/data/v1/data_pb.ts";
import { linkSignals, onAbort, reasonOf } from "../async/signals.ts";
import { dataErrorOf } from "../client/index.ts";
import type { Ack, Appender } from "../client/index.ts";
import type { Backlog, BatchLimits } from "./backlog.ts";
import { plural } from "./format.ts";
import { chunksUntil } from "./input-chunks.ts";
import { Interrupted } from "./interrupt.ts";
import { splitLines } from "./lines.ts";
import type { LongLines } from "./lines.ts";
import type { Retries } from "./retries.ts";
import type { ClientSession } from "./session.ts";

/** How long what was read may take to be stored after a signal, in milliseconds. */
const graceMs = 5_000;

export interface LineShipperOptions {
  readonly stream: string;
  readonly longLines: LongLines;
  readonly limits: BatchLimits;
  readonly retries: Retries;
}

/**
 * Reads lines into a backlog, and appends them from there, each on its own: while the server is away reading goes on
 * until the backlog is full, and then the input waits.
 */
export class LineShipper {
  /** What this run has stored. */
  stored = 0;
  firstSeq: bigint | undefined;
  nextSeq = 0n;
  longLineCount = 0;
  /** Whether the stream was sealed behind it. */
  sealed = false;
  readonly #session: ClientSession;
  readonly #options: LineShipperOptions;
  readonly #backlog: Backlog;
  /** Aborted to give up what is not stored. */
  readonly #cut = new AbortController();
  /** Acks that are being noted in the backlog, in order. */
  #acks: Promise<void> = Promise.resolve();

  constructor(session: ClientSession, options: LineShipperOptions, backlog: Backlog) {
    this.#session = session;
    this.#options = options;
    this.#backlog = backlog;
  }

  /** The signal because of which lines were given up; undefined if none were. */
  get interruptedBy(): Interrupted | undefined {
    const { reason } = this.#cut.signal as { reason: unknown };
    return reason instanceof Interrupted ? reason : undefined;
  }

  /** Resolves once the input has ended, or a signal has come, and everything read is stored. */
  async run(input: Readable, seal: boolean): Promise<void> {
    const { signal } = this.#session;
    const failed = linkSignals();
    let timer: NodeJS.Timeout | undefined;
    const forget = onAbort(signal, (reason) => {
      this.#backlog.hurry();
      this.#cutInOutage();
      timer = setTimeout(() => {
        this.#cut.abort(reason);
      }, graceMs);
    });
    // Its failure is told after what came before it is stored.
    let inputFailure: { readonly error: unknown } | undefined;
    const reading = this.#read(input, failed.signal).catch((error: unknown) => {
      inputFailure = { error };
    });
    try {
      await this.#send(seal, () => inputFailure !== undefined);
    } finally {
      failed.abort();
      await reading;
      await this.#acks.catch(() => undefined);
      clearTimeout(timer);
      forget();
    }
    if (inputFailure !== undefined) throw inputFailure.error;
  }

  async #read(input: Readable, failed: AbortSignal): Promise<void> {
    const { longLines, limits } = this.#options;
    const chunks = chunksUntil(input, AbortSignal.any([this.#session.signal, failed]));
    const onLongLine = (): void => {
      this.longLineCount++;
    };
    const waits = AbortSignal.any([this.#cut.signal, failed]);
    try {
      for await (const lines of splitLines(chunks, { maxLineBytes: limits.maxBytes, longLines, onLongLine })) {
        await this.#backlog.add(lines, waits);
      }
    } catch (error) {
      // Then the sender has the failure.
      if (!waits.aborted) throw error;
    } finally {
      this.#backlog.end();
    }
  }

  /** Appends until the backlog has ended, by as many appenders as it takes. */
  async #send(seal: boolean, isIncomplete: () => boolean): Promise<void> {
    const { client, signal } = this.#session;
    const { stream, retries } = this.#options;
    for (;;) {
      const { producer } = this.#backlog;
      const appender = client.data.appender(stream, {
        createIfMissing: true,
        signal: this.#cut.signal,
        retry: retries.options,
        onRetry: (error, attempt, delayMs) => {
          retries.onRetry(error, attempt, delayMs);
          if (signal.aborted) this.#cutInOutage();
        },
        ...(producer && { producerId: producer.id, epoch: 0, firstProducerSeq: producer.firstSeq }),
      });
      try {
        await this.#sendBy(appender);
        if (seal && !signal.aborted && !isIncomplete()) {
          await appender.seal();
          this.sealed = true;
        }
        await appender.close();
        return;
      } catch (error) {
        appender.abort(error);
        await this.#acks.catch(() => undefined);
        if (producer === undefined || !isForgotten(error)) throw error;
        const lines = plural(this.#backlog.waiting, "line");
        this.#session.out.note(`the server does not know this push any more: ${lines} may be stored twice`);
        await this.#backlog.renew();
      }
    }
  }

  async #sendBy(appender: Appender): Promise<void> {
    const failed = linkSignals(this.#cut.signal);
    try {
      for (;;) {
        const lines = await this.#backlog.take(failed.signal);
        if (lines === undefined) break;
        await appender.ready();
        appender.append(lines.map((data) => ({ data }))).then(
          (ack) => {
            this.#acked(ack, lines.length);
          },
          (error: unknown) => {
            failed.abort(error);
          },
        );
      }
      await appender.flush();
    } catch (error) {
      throw failed.signal.aborted ? reasonOf(failed.signal) : error;
    } finally {
      failed.cleanup();
    }
    await this.#acks;
  }

  #acked({ firstSeq, nextSeq }: Ack, lines: number): void {
    this.#options.retries.succeeded();
    this.firstSeq ??= firstSeq;
    this.nextSeq = nextSeq;
    this.stored += lines;
    this.#acks = this.#acks.then(() => this.#backlog.acked());
    this.#acks.catch(() => undefined);
  }

  /** After Ctrl-C nobody wants to wait for a server that is away. */
  #cutInOutage(): void {
    const reason = reasonOf(this.#session.signal);
    const isCtrlC = reason instanceof Interrupted && reason.exit === "interrupted";
    if (isCtrlC && this.#options.retries.inOutage) this.#cut.abort(reason);
  }
}

/**
 * Whether the server knows nothing of the producer: it has forgotten it, the stream is another one, or the spool is an
 * older copy, whose numbers have gone to other batches.
 */
function isForgotten(error: unknown): boolean {
  const detail = dataErrorOf(error);
  if (detail?.reason === Reason.PRODUCER_CONFLICT) return true;
  return detail?.reason === Reason.PRODUCER_GAP && detail.nextProducerSeq === 0n;
}
