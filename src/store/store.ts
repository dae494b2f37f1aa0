/**
 * The port to the storage engine. Its implementations are `memory.ts` and
 * `lmdb.ts`; one contract suite (`test/contract/`) holds for all of them.
 *
 * Positions are plain numbers, because a stream of 2^53 records is out of
 * reach (285 years at a million records a second) and numbers are several
 * times faster than bigints.
 *
 * Expected failures are `DomainError`s.
 */
import { DomainError } from "../errors.ts";

/** What a client appended. The store keeps it as it is. */
export interface StoredRecord {
  readonly headers: Readonly<Record<string, string>>;
  readonly data: Uint8Array;
}

/** Consecutive records that were stored at one time, or a part of them. Readers may share one, and must not change it. */
export interface StoredBatch {
  readonly firstSeq: number;
  /** Milliseconds since the Unix epoch; never goes backwards within a stream. */
  readonly timeMs: number;
  readonly records: readonly StoredRecord[];
}

/** Which records a stream keeps. An absent limit is no limit. */
export interface Retention {
  readonly maxAgeMs?: number;
  readonly maxBytes?: number;
  readonly maxRecords?: number;
}

/** Limits to change: an absent one stays, and 0 takes it away. */
export type RetentionChange = Retention;

/** What the creator of a stream says about it. */
export type Metadata = Readonly<Record<string, string>>;

/** A checked SHA-256 over the data of the records from `firstSeq` to the tail. */
export interface SealChecksum {
  readonly sha256: Uint8Array;
  readonly firstSeq: number;
}

export interface StreamInfo {
  readonly name: string;
  /** Tells this stream from others that had, or will have, the same name; also in copies of this store. */
  readonly uid: string;
  /** The oldest seq kept; equal to `tail` when no record is kept. */
  readonly head: number;
  /** The seq that the next record gets. */
  readonly tail: number;
  /** Size of the kept records (see `recordSize`), in bytes. */
  readonly bytes: number;
  readonly sealed: boolean;
  readonly checksum?: SealChecksum;
  readonly createTimeMs: number;
  /** When the newest batch was stored; absent if there has been none. */
  readonly appendTimeMs?: number;
  readonly retention: Retention;
  /** Absent: none. */
  readonly metadata?: Metadata;
}

/** Who appends; a batch that a producer sends again is stored once. */
export interface ProducerId {
  readonly id: string;
  readonly epoch: number;
}

/** What is done only in the stream that the caller means: another one of its name is "stream-replaced". */
export interface Expectation {
  /** Absent: any. With it a missing stream is never made. */
  readonly expectedUid?: string | undefined;
}

export interface AppenderOptions extends Expectation {
  readonly stream: string;
  readonly createIfMissing?: boolean;
  readonly producer?: ProducerId;
  /**
   * The first batch is stored only if this is the tail, and each later one only
   * right behind the one before. An appender makes a missing stream only for 0.
   */
  readonly expectedSeq?: number;
}

export interface ClaimOptions extends Expectation {
  readonly stream: string;
  readonly createIfMissing?: boolean;
  readonly producerId: string;
}

export interface Claim {
  readonly epoch: number;
  /** Of the stream. */
  readonly uid: string;
}

export interface AppendInput {
  /** May be empty only with `seal`. */
  readonly records: readonly StoredRecord[];
  /** Given if and only if the appender has a producer. From 0, without gaps. */
  readonly producerSeq?: number;
  /** Seals the stream in the same transaction. */
  readonly seal?: {
    /** Recorded as it is: the caller has checked it against the data. */
    readonly checksum?: SealChecksum;
    /** Store and seal only if this is the tail before this batch. */
    readonly expectedSeq?: number;
  };
}

export interface AppendResult {
  readonly firstSeq: number;
  readonly nextSeq: number;
  /** The batch had been stored before; the positions are those of then. */
  readonly duplicate: boolean;
}

export interface Appended extends AppendResult {
  /** Of the stream. */
  readonly uid: string;
}

/** One caller's appends to one stream, in order. */
export interface Appender {
  /** Of the stream: nothing is appended to another one of its name. */
  readonly uid: string;
  /** The tail when the appender was opened. */
  readonly tail: number;
  /** The producer_seq that the producer's next batch must have. */
  readonly nextProducerSeq?: number;
  /**
   * Where this upload began: with a producer, the first record that its epoch
   * stored; otherwise, or if it has stored none, the tail at opening.
   */
  readonly firstSeq: number;
  /**
   * Stores a batch whole or not at all, and resolves once it is durable.
   *
   * Call it again without waiting: batches are stored in the order of the
   * calls, and many share one flush. After the first failure every later (and
   * every pending) call fails with the same error, and nothing more is stored.
   *
   * A batch is checked in this order: a repeat of a stored batch is answered
   * with its positions (even on a sealed stream, so that a retry succeeds after
   * a lost answer), or fails with "producer-conflict" if its content is another;
   * sealed; epoch; gap; expectedSeq.
   */
  append(input: AppendInput): Promise<AppendResult>;
  /** To be called when nothing more will be appended. Until then the producer is not forgotten, however long it is idle. */
  close(): void;
}

export interface ReadOptions extends Expectation {
  /** At most so many records. */
  readonly maxRecords: number;
  /** Stops before the sizes of the records would exceed this; one record is always returned. */
  readonly maxBytes: number;
}

export interface SealOptions extends Expectation {
  /** Only if this is the tail. */
  readonly expectedSeq?: number;
  readonly checksum?: SealChecksum;
}

/** Records from a position on, with the state of the stream at that moment. */
export interface ReadResult {
  /** Empty if and only if the position is the tail. May cut stored batches. */
  readonly batches: readonly StoredBatch[];
  /** The position after the last record returned. */
  readonly nextSeq: number;
  readonly info: StreamInfo;
}

/** The names from `from` up to, but without, `to`, in the order of their bytes. */
export interface NameRange {
  readonly from: string;
  readonly to: string;
}

export interface ListOptions {
  /** Only names in these ranges, which must be in order and disjoint. Absent: all names. */
  readonly ranges?: readonly NameRange[];
  /** Only names behind this one. */
  readonly after?: string;
  readonly limit: number;
}

/** Space on the disk of a store. */
export interface DiskState {
  /** Bytes that are allocated ahead in the store's file. */
  readonly headroomBytes: number;
  /** Whether what makes the store larger is refused with "store-full" until there is space. */
  readonly isFull: boolean;
  /** Commits that were refused so since the store was opened. */
  readonly refusals: number;
}

export interface Store {
  /** What a resolved append stands for. */
  readonly durability: "memory" | "disk";
  /**
   * Aborted, with "store-unavailable" as the reason, when the store cannot be used any more: everything fails with it from
   * then on, until the directory is opened anew.
   */
  readonly broken: AbortSignal;
  /** Absent if the store uses no disk. */
  readonly disk?: DiskState;

  /** Fails with "stream-exists". */
  create(name: string, retention?: Retention, metadata?: Metadata): Promise<StreamInfo>;
  /** Fails with "stream-not-found", as does everything below that names a stream. */
  get(name: string): Promise<StreamInfo>;
  /**
   * In the order of the names' bytes. Costs what is found and a look into each
   * range, whatever else the store holds; others get their turns meanwhile.
   * Rejects with the signal's reason when it is aborted.
   */
  list(options: ListOptions, signal?: AbortSignal): Promise<StreamInfo[]>;
  /** Changes which records the stream keeps. What is over a limit leaves soon after. */
  update(name: string, retention: RetentionChange, options?: Expectation): Promise<StreamInfo>;
  delete(name: string, options?: Expectation): Promise<void>;
  /**
   * Removes every record below `beforeSeq`; fails with "position-out-of-range" beyond the tail.
   * Large trims are made in parts: when the signal is aborted, which rejects with its reason, some may be done.
   */
  trim(name: string, beforeSeq: number, options?: Expectation & { signal?: AbortSignal }): Promise<StreamInfo>;
  /**
   * Ends the stream. Sealing it again succeeds, unless `checksum` differs from
   * the recorded one. Fails with "seq-mismatch" if `expectedSeq` is not the tail.
   */
  seal(name: string, options?: SealOptions): Promise<StreamInfo>;

  openAppender(options: AppenderOptions): Promise<Appender>;
  /**
   * Appends one batch, with the checks of an appender, and makes a missing stream in the same transaction: nobody sees the
   * stream without the batch, and a batch that is refused makes none.
   */
  append(options: AppenderOptions, input: AppendInput): Promise<Appended>;
  /**
   * Gives a producer an epoch above every one before, durably.
   * From then on what comes under an older one is "producer-fenced".
   */
  claimProducer(options: ClaimOptions): Promise<Claim>;

  /** Fails with "position-out-of-range" below the head or beyond the tail. */
  read(name: string, fromSeq: number, options: ReadOptions): Promise<ReadResult>;
  /** The first seq that was stored at that time or later; the tail if there is none. */
  seqAtTime(name: string, timeMs: number): Promise<number>;
  /**
   * Calls the listener after each change of the stream of this name that a reader
   * at its tail has to know of: records that became durable, a seal, a delete.
   * What a read begun in the listener finds includes the change. The listener
   * must not throw. Returns the cleanup.
   *
   * The newest batches of a stream that is watched are kept in memory, so that
   * many readers at its tail decode each of them once.
   */
  watch(name: string, listener: () => void): () => void;

  /**
   * Applies the retention of the streams that have one, and forgets producers that were idle for too long. Looks at
   * a bounded number of producers each time, and goes on with the others the next time. Others get their turns
   * meanwhile; ends early, and rejects with the signal's reason, when it is aborted.
   */
  sweep(nowMs: number, signal?: AbortSignal): Promise<void>;
  /** Waits for what has been appended to be durable, then lets go of the files. */
  close(): Promise<void>;
}

/** What a record counts for in limits and totals: its data and its headers, in bytes. */
export function recordSize(record: StoredRecord): number {
  let size = record.data.byteLength;
  for (const key in record.headers) {
    size += Buffer.byteLength(key) + Buffer.byteLength(record.headers[key] ?? "");
  }
  return size;
}

/** What the records count for together, in bytes. */
export function recordsSize(records: readonly StoredRecord[]): number {
  let size = 0;
  for (const record of records) size += recordSize(record);
  return size;
}

/** The limits, changed. */
export function changeRetention(retention: Retention, change: RetentionChange): Retention {
  return Object.fromEntries(Object.entries({ ...retention, ...change }).filter(([, limit]) => limit > 0));
}

/** Throws "stream-replaced" unless the stream is the one that the caller means. */
export function requireUid(
  { name, uid }: Pick<StreamInfo, "name" | "uid">,
  expectedUid: Expectation["expectedUid"],
): void {
  if (expectedUid === undefined || expectedUid === uid) return;
  throw new DomainError({ kind: "stream-replaced", stream: name, expectedUid, uid });
}
