import type { Database, Key } from "lmdb";
import { toError } from "../async/to-error.ts";
import { DomainError, isDomainError } from "../errors.ts";
import { toDomainError, unavailable } from "./lmdb-failure.ts";
import type { Purpose } from "./lmdb-headroom.ts";
import { addPut, noChanges } from "./lmdb-page-bound.ts";
import type { TreeChanges } from "./lmdb-page-bound.ts";

/** Operations and bytes of one commit: more would keep the event loop for too long. */
const maxOperations = 1000;
const maxBytes = 8 * 1024 * 1024;

/** What the numbers of a row take, with their names, in bytes: more than in any of them. */
const rowBytes = 512;
/** Bytes in UTF-8 for each UTF-16 unit of a key, at most. */
const maxBytesPerUnit = 3;

/**
 * In the place of a version lmdb takes a callback (which its types do not say),
 * and then makes no promise of the write's own, which nobody would wait for.
 */
const ignored = (() => undefined) as unknown as number;

/** Reads and writes of one commit. What is written is seen by the later operations of the same commit. */
export class Commit {
  readonly #written = new Map<unknown, Map<string, unknown>>();
  readonly #writes: (() => void)[] = [];
  readonly #afterwards: (() => void)[] = [];
  readonly #announcements: (() => void)[] = [];
  readonly #failures: (() => void)[] = [];
  readonly #changes = new Map<Database, TreeChanges>();
  #added = 0;
  #freed = 0;
  #purpose: Purpose = "release";

  /** By how much the commit changes what the store counts, in bytes. */
  get bytes(): number {
    return this.#added - this.#freed;
  }

  /** The same without what it frees: others may take its place once the commit is durable. */
  get addedBytes(): number {
    return this.#added;
  }

  /** Whether nothing has been written so far, so that what is read is durable. */
  get isEmpty(): boolean {
    return this.#writes.length === 0;
  }

  /** Notes that the store counts so many bytes more with this commit. */
  add(bytes: number): void {
    this.#added += bytes;
  }

  /** Notes that the store counts so many bytes less. */
  free(bytes: number): void {
    this.#freed += bytes;
  }

  /** What is written, by table, for an account of the pages that it takes. */
  get changes(): ReadonlyMap<Database, TreeChanges> {
    return this.#changes;
  }

  /** Whether an operation in it makes the store larger. */
  get purpose(): Purpose {
    return this.#purpose;
  }

  /** Notes that the commit makes the store larger, so that it needs space beyond the reserve. */
  grows(): void {
    this.#purpose = "growth";
  }

  get<V, K extends Key>(table: Database<V, K>, key: K): V | undefined {
    const written = this.#written.get(table);
    const text = JSON.stringify(key);
    return written?.has(text) === true ? (written.get(text) as V | undefined) : table.get(key);
  }

  /** `extraBytes`: of a row, what it takes besides its name and its numbers, at most. */
  put<V, K extends Key>(table: Database<V, K>, key: K, value: V, extraBytes = 0): void {
    const { text, isNew } = this.#note(table, key, value);
    const keyBytes = maxBytesPerUnit * text.length;
    const size = Buffer.isBuffer(value) ? value.byteLength : rowBytes + keyBytes + extraBytes;
    addPut(this.#changesOf(table), keyBytes, size, isNew);
    this.#writes.push(() => void table.put(key, value, ignored));
  }

  remove<V, K extends Key>(table: Database<V, K>, key: K): void {
    this.#changesOf(table).removals++;
    this.#remove(table, key);
  }

  /** Removes keys that follow each other in the table. `freedPages`: what their values had for themselves, at most. */
  removeRun<V, K extends Key>(table: Database<V, K>, keys: readonly K[], freedPages = 0): void {
    if (keys.length === 0) return;
    const changes = this.#changesOf(table);
    changes.runs++;
    changes.freedPages += freedPages;
    for (const key of keys) this.#remove(table, key);
  }

  /** Runs once the commit is durable. */
  after(run: () => void): void {
    this.#afterwards.push(run);
  }

  /** Runs behind all that `after` was given: tells others, who may look at what any operation of the commit has changed. */
  announce(run: () => void): void {
    this.#announcements.push(run);
  }

  /** Runs if the commit fails. */
  onFailure(run: () => void): void {
    this.#failures.push(run);
  }

  /** Takes back what the operations have noted elsewhere: nothing of it is stored. The newest goes first. */
  fail(): void {
    for (const run of this.#failures.splice(0).reverse()) run();
  }

  /** Writes everything at once, unless the key is in the meta table, and resolves when it is durable. */
  async flush(meta: Database<unknown, string>, lostKey: string): Promise<void> {
    if (this.#writes.length === 0) return;
    const written = await meta.ifNoExists(lostKey, () => {
      for (const write of this.#writes) write();
    });
    if (!written) throw new OwnershipLost();
  }

  /** Runs what is to run once the commit is durable. */
  finish(): void {
    this.#failures.length = 0;
    for (const run of this.#afterwards) run();
    for (const run of this.#announcements) run();
  }

  #remove<V, K extends Key>(table: Database<V, K>, key: K): void {
    this.#note(table, key, undefined);
    this.#writes.push(() => void table.remove(key, ignored));
  }

  #note(table: unknown, key: Key, value: unknown): { readonly text: string; readonly isNew: boolean } {
    let written = this.#written.get(table);
    if (written === undefined) this.#written.set(table, (written = new Map<string, unknown>()));
    const text = JSON.stringify(key);
    const isNew = !written.has(text);
    written.set(text, value);
    return { text, isNew };
  }

  #changesOf<V, K extends Key>(table: Database<V, K>): TreeChanges {
    const known = table as unknown as Database;
    let changes = this.#changes.get(known);
    if (changes === undefined) this.#changes.set(known, (changes = noChanges()));
    return changes;
  }
}

/** Another process has replaced this one as the owner of the store. */
class OwnershipLost extends Error {
  constructor() {
    super("another process has taken over the data directory");
    this.name = "OwnershipLost";
  }
}

interface Operation {
  readonly bytes: number;
  /** Returns what to do once the commit is durable; throws, before it has written anything, if it must not be done. */
  readonly run: (commit: Commit) => () => void;
  readonly reject: (error: unknown) => void;
}

export interface CommitterOptions {
  readonly dir: string;
  readonly meta: Database<unknown, string>;
  /** Nothing is written any more once this key is in the meta table: see `lockStore`. */
  readonly lostKey: string;
  /** May add to each commit, after its operations and before it is written. */
  readonly complete: (commit: Commit) => void;
  /**
   * Resolves once the disk has room for the commit, which is what LMDB relies on. What it rejects with is the failure of
   * the operations, "store-full" only if a commit of one operation has no room either. Absent: LMDB is left to itself.
   */
  readonly admit?: (commit: Commit) => Promise<void>;
  /** Called once, when nothing can be written any more. */
  readonly onBroken: (failure: DomainError) => void;
}

/**
 * Group commit: while one commit is on its way to the disk, the operations that
 * arrive wait together for the next. One commit at a time, so that an operation
 * decides on durable state and on what comes before it, and a commit that fails
 * leaves nothing behind.
 *
 * A refusal tells of the state that it was decided on. If that includes writes of
 * its own commit, it waits until they are durable, and the operation is decided
 * again if they fail.
 */
export class Committer {
  readonly #options: CommitterOptions;
  readonly #queue: Operation[] = [];
  #running: Promise<void> | undefined;
  #isFlushing = false;
  #closed = false;
  /** Operations of the next commit, at most: fewer while there is no room for all that wait. */
  #limit = maxOperations;
  /** Why nothing can be written any more. */
  #broken: DomainError | undefined;

  constructor(options: CommitterOptions) {
    this.#options = options;
  }

  /** Whether a commit is on its way to the disk: it may be durable, and seen by those who read, before that is known here. */
  get isFlushing(): boolean {
    return this.#isFlushing;
  }

  /** Runs `operation` in its turn, and resolves with its result once it is durable. */
  submit<T>(operation: (commit: Commit) => T, bytes = 0): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#broken !== undefined) {
        reject(this.#broken);
        return;
      }
      if (this.#closed) {
        reject(new DomainError({ kind: "store-unavailable", detail: "it is closed" }));
        return;
      }
      const run = (commit: Commit): (() => void) => {
        const result = operation(commit);
        return () => {
          resolve(result);
        };
      };
      this.#queue.push({ bytes, run, reject });
      this.#running ??= this.#work();
    });
  }

  /** Takes no more, and resolves when everything that was submitted is durable. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
  }

  async #work(): Promise<void> {
    // What arrives in the same turn shares the first commit too.
    await Promise.resolve();
    while (this.#queue.length > 0) await this.#commit();
    this.#running = undefined;
  }

  async #commit(): Promise<void> {
    const commit = new Commit();
    const done: { operation: Operation; resolve: () => void }[] = [];
    const refused: { operation: Operation; error: unknown }[] = [];
    let bytes = 0;
    let taken = 0;
    while (taken < this.#queue.length && taken < this.#limit && bytes < maxBytes) {
      const operation = this.#queue[taken++];
      if (operation === undefined) break;
      try {
        done.push({ operation, resolve: operation.run(commit) });
        bytes += operation.bytes;
      } catch (error) {
        if (commit.isEmpty) operation.reject(error);
        else refused.push({ operation, error });
      }
    }
    const operations = this.#queue.splice(0, taken);
    const { dir, meta, lostKey, complete, admit } = this.#options;
    try {
      complete(commit);
      if (!commit.isEmpty) await admit?.(commit);
      this.#isFlushing = true;
      try {
        await commit.flush(meta, lostKey);
      } finally {
        this.#isFlushing = false;
      }
      this.#limit = Math.min(maxOperations, 2 * this.#limit);
      // In the same turn, so that nobody reads in between.
      commit.finish();
      for (const { resolve } of done) resolve();
      for (const { operation, error } of refused) operation.reject(error);
    } catch (error) {
      commit.fail();
      const waiting = new Set([...done, ...refused].map(({ operation }) => operation));
      if (isDomainError(error, "store-full") && waiting.size > 1) {
        // Those that have room by themselves must not fail with the others.
        this.#limit = Math.max(1, Math.floor(waiting.size / 2));
        this.#queue.unshift(...operations.filter((operation) => waiting.has(operation)));
        return;
      }
      const failure = error instanceof OwnershipLost ? unavailable(error) : await toDomainError(error, dir);
      for (const { operation } of done) operation.reject(failure);
      this.#queue.unshift(...refused.map(({ operation }) => operation));
      if (error instanceof OwnershipLost || !this.#canRead()) this.#break(toError(error));
    }
  }

  /** After a write of a meta page that failed, LMDB lets nobody read either. */
  #canRead(): boolean {
    try {
      this.#options.meta.get("format");
      return true;
    } catch {
      return false;
    }
  }

  #break(cause: Error): void {
    const failure = unavailable(cause);
    this.#broken = failure;
    for (const { reject } of this.#queue.splice(0)) reject(failure);
    this.#options.onBroken(failure);
  }
}
