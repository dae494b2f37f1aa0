import { toError } from "../async/to-error.ts";
import type { ReadResult, Store, StoredBatch } from "../store/store.ts";
import type { CallEnd } from "./call-end.ts";
import type { Follower, Followers } from "./followers.ts";
import type { ReadWording } from "./read-wording.ts";

export interface FollowOptions {
  readonly stream: string;
  readonly follow: boolean;
  /** Infinity for no limit. */
  readonly maxRecords: number;
  /** Infinity for no limit. */
  readonly maxBytes: number;
  /** Bytes of one message. */
  readonly chunkBytes: number;
  /** Milliseconds of silence before a heartbeat. */
  readonly heartbeatMs: number;
  readonly call: CallEnd;
  /** A drain ends those who follow. */
  readonly followers: Followers;
}

/** Records that one message holds at most, whatever their size. */
const chunkRecords = 10_000;

const done: IteratorReturnResult<undefined> = { done: true, value: undefined };

/** Where a read begins. */
export interface Start {
  readonly seq: number;
  /** Of the stream that the seq is in; absent: whichever has the name. */
  readonly expectedUid: string | undefined;
}

/** What a follower has as long as it is at the tail, or was once. */
interface Watch {
  readonly timer: NodeJS.Timeout;
  readonly unwatch: () => void;
  readonly leaveCall: () => void;
}

/**
 * Reads a stream from a position on: what is stored, then, with `follow`, what
 * comes. Each step reads from the store what the next message needs, so that a
 * reader that does not keep up holds one message, and never a backlog.
 *
 * An iterator of our own and no generator, because there may be ten thousand at
 * one tail: while it waits it holds one promise. What is made for each wait lives
 * until the next record, outlives the young generation, and fills the old one.
 * For the same reason it has one timer and one listener of each kind.
 */
export class Reading<T> implements AsyncIterableIterator<T, undefined, undefined>, Follower {
  readonly #store: Store;
  readonly #wording: ReadWording<T>;
  readonly #options: FollowOptions;
  /** Finds the first position. Dropped then, with the request that it comes from. */
  #from: (() => Promise<Start>) | undefined;
  #fromSeq = 0;
  #seq = 0;
  #records: number;
  #bytes: number;
  #uid: string | undefined;
  /** Something has been told. */
  #begun = false;
  /** What has been read, and how much of it has been taken. */
  #batches: readonly StoredBatch[] = [];
  #taken = 0;
  #behind = true;
  #watch: Watch | undefined;
  /** The stream has changed since it was last read. */
  #changed = false;
  #waiting = false;
  #failure: Error | undefined;
  #ended = false;
  #resolve: ((result: IteratorResult<T, undefined>) => void) | undefined;
  #reject: ((reason: Error) => void) | undefined;

  /** `from` finds the first position. */
  constructor(store: Store, wording: ReadWording<T>, from: () => Promise<Start>, options: FollowOptions) {
    this.#store = store;
    this.#wording = wording;
    this.#from = from;
    this.#options = options;
    this.#records = options.maxRecords;
    this.#bytes = options.maxBytes;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** To be called again only when the last one has settled. */
  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#ended) return Promise.resolve(done);
    const taken = this.#take();
    if (taken !== undefined) return Promise.resolve(taken);
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      this.#step();
    });
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#deliver(this.#end());
    return Promise.resolve(done);
  }

  fail(reason: Error): void {
    this.#failure ??= reason;
    if (this.#waiting) this.#onError(reason);
  }

  /** The next of what has been read. */
  #take(): IteratorResult<T, undefined> | undefined {
    const batch = this.#batches[this.#taken];
    if (batch === undefined) return undefined;
    this.#taken++;
    // Stored batches that are replayed are seldom read by others at the same time.
    const { size, message } = this.#watch === undefined ? this.#wording.batch(batch) : this.#wording.sharedBatch(batch);
    // `max_bytes` ends before it would be exceeded, except that the first record always comes.
    if (size > this.#bytes && this.#seq > this.#fromSeq) return this.#end();
    this.#seq = batch.firstSeq + batch.records.length;
    this.#records -= batch.records.length;
    this.#bytes -= size;
    return { done: false, value: message };
  }

  #step(): void {
    if (this.#from !== undefined) {
      const pending = this.#from();
      this.#from = undefined;
      pending.then(({ seq, expectedUid }) => {
        this.#uid = expectedUid;
        this.#fromSeq = seq;
        this.#seq = seq;
        this.#step();
      }, this.#onError);
      return;
    }
    if (this.#records <= 0 || this.#bytes <= 0) {
      this.#deliver(this.#end());
      return;
    }
    this.#changed = false;
    this.#store
      .read(this.#options.stream, this.#seq, {
        maxRecords: Math.min(this.#records, chunkRecords),
        maxBytes: Math.min(this.#bytes, this.#options.chunkBytes),
        expectedUid: this.#uid,
      })
      .then(this.#onRead, this.#onError);
  }

  readonly #onRead = ({ batches, info }: ReadResult): void => {
    if (this.#ended) return;
    this.#uid = info.uid;
    this.#batches = batches;
    this.#taken = 0;
    const taken = this.#take();
    if (taken !== undefined) {
      this.#behind = true;
      this.#deliver(taken);
    } else if (info.sealed) {
      const value = this.#wording.sealed(info);
      this.#end();
      this.#deliver({ done: false, value });
    } else if (!this.#options.follow) {
      this.#deliver(this.#end());
    } else if (this.#watch === undefined) {
      this.#watch = this.#startWatch();
      // What came before the watch began is not told.
      this.#step();
    } else if (this.#failure !== undefined) {
      this.#onError(this.#failure);
    } else if (this.#behind) {
      this.#behind = false;
      this.#deliver({ done: false, value: this.#wording.caughtUp(this.#seq) });
    } else if (this.#changed) {
      this.#step();
    } else {
      this.#waiting = true;
      this.#watch.timer.refresh();
    }
  };

  readonly #onError = (error: unknown): void => {
    this.#end();
    const reject = this.#reject;
    this.#resolve = this.#reject = undefined;
    reject?.(toError(error));
  };

  #startWatch(): Watch {
    const { stream, heartbeatMs, call, followers } = this.#options;
    followers.add(this);
    return {
      timer: setTimeout(() => {
        if (!this.#waiting) return;
        this.#waiting = false;
        this.#deliver({ done: false, value: this.#wording.heartbeat(this.#seq) });
      }, heartbeatMs),
      unwatch: this.#store.watch(stream, () => {
        this.#changed = true;
        if (!this.#waiting) return;
        this.#waiting = false;
        this.#step();
      }),
      leaveCall: call.onAbort((reason) => {
        this.fail(reason);
      }),
    };
  }

  #deliver(result: IteratorResult<T, undefined>): void {
    const resolve = this.#resolve;
    this.#resolve = this.#reject = undefined;
    if (this.#begun || result.done === true) {
      resolve?.(result);
      return;
    }
    this.#begun = true;
    resolve?.({ done: false, value: this.#wording.first(result.value, this.#uid ?? "") });
  }

  #end(): typeof done {
    this.#ended = true;
    this.#waiting = false;
    this.#batches = [];
    if (this.#watch !== undefined) {
      clearTimeout(this.#watch.timer);
      this.#watch.unwatch();
      this.#watch.leaveCall();
      this.#watch = undefined;
      this.#options.followers.delete(this);
    }
    return done;
  }
}
