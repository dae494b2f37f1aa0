import type { Database } from "lmdb";
import { join } from "node:path";
import { toError } from "../async/to-error.ts";
import { DomainError } from "../errors.ts";
import { diskSpace } from "./disk-space.ts";
import type { DiskSpace } from "./disk-space.ts";
import { AllocatedFile } from "./lmdb-allocation.ts";
import { startBytes } from "./lmdb-env.ts";
import type { Tables } from "./lmdb-env.ts";
import { pagesOf, statsOf } from "./lmdb-page-bound.ts";
import type { FileStats, Growth } from "./lmdb-page-bound.ts";

const MiB = 1024 * 1024;
/** The least that is kept allocated behind the last page, in bytes, unless the disk is small or less is asked for. */
export const minReserve = MiB;
/** How much is allocated at once, at least and at most, in bytes. */
const steps = { min: MiB / 2, max: 16 * MiB } as const;
/** The file grows by whole blocks, in bytes. */
const block = 4096;
/** How long a failed attempt to get more space counts, in milliseconds: until then a refusal costs no write. */
const retryMs = 250;
/** How long an answer about free space counts where each write takes some, in milliseconds. */
const freshMs = 100;

export interface HeadroomOptions {
  readonly dir: string;
  /** Bytes that stay free on the disk, and the most that is kept allocated in the file for what frees space. */
  readonly reserve: number;
  /** Nothing is written over once this key is in the meta table: see `lockStore`. */
  readonly lostKey: string;
  /** Called with a sentence when growth is refused for want of space, and when it is possible again. */
  readonly onWarning: (message: string) => void;
}

/** How LMDB's file is filled. */
interface Fill {
  /** Bytes up to the end of the last page. */
  readonly used: number;
  /** Bytes that are allocated behind it. */
  readonly headroom: number;
  /** Headroom to be had while nothing is written: more for a larger store, up to the reserve. */
  readonly target: number;
  readonly file: FileStats;
}

/** What a transaction may do to the size of the store: what releases space may take the rest of the headroom. */
export type Purpose = "growth" | "release";

/**
 * Space on the disk that is allocated behind LMDB's last page, so that no write of LMDB's fails for want of space.
 *
 * When a write of its pages fails, lmdb 3.5.6 formats more than 100 characters into `malloc(100)` (mdb.c,
 * `mdb_page_flush`), and glibc ends the process for the broken heap. So zeros are written behind the last page, which
 * LMDB takes no notice of, and a transaction begins only if all that it may write has room there.
 */
export class Headroom {
  readonly #tables: Tables;
  readonly #options: HeadroomOptions;
  readonly #file: AllocatedFile;
  #disk: { readonly atMs: number; readonly space: DiskSpace | undefined } | undefined;
  #extending: Promise<void> | undefined;
  #failure: { readonly atMs: number; readonly reason: string } | undefined;
  #isShort = false;
  #refusals = 0;
  #closed = false;

  constructor(tables: Tables, options: HeadroomOptions) {
    const { root, meta } = tables;
    this.#tables = tables;
    this.#options = options;
    this.#file = new AllocatedFile(join(options.dir, "data.mdb"), usedBytes(root), (write) => {
      // LMDB's lock on writing is held: no other process can become the owner, and write there, meanwhile.
      root.transactionSync(() => {
        if (meta.get(options.lostKey) === undefined) write(usedBytes(root));
      });
    });
  }

  /** Allocated bytes behind LMDB's last page; 0 once it is closed. */
  get bytes(): number {
    return this.#closed ? 0 : this.#fill().headroom;
  }

  /** Whether growth is refused for want of space. */
  get isShort(): boolean {
    return this.#isShort;
  }

  /** Refusals so far. */
  get refusals(): number {
    return this.#refusals;
  }

  /** Begins to allocate what the first transactions need, without waiting for it. */
  async prepare(): Promise<void> {
    await this.#diskSpace(freshMs);
    this.#extendAhead(this.#fill(), 0);
  }

  /** Resolves once a transaction that makes the file grow so may begin. Rejects with "store-full" if there is no room. */
  async require(purpose: Purpose, growth: Growth): Promise<void> {
    const disk = await this.#diskSpace(this.#disk?.space?.copiesOnWrite === true ? freshMs : Infinity);
    if (purpose === "growth" && disk?.copiesOnWrite === true && disk.free < this.#reserve()) {
      this.#refuse(purpose, describeFree(disk, this.#reserve()));
    }
    let fill = this.#fill();
    let bytes = growth.rough(fill.file);
    if (!this.#fits(purpose, fill, bytes)) bytes = growth.exact(fill.file);
    if (!this.#fits(purpose, fill, bytes)) {
      // What is being allocated already may be enough, or too little.
      for (const more of [() => this.#extending, () => this.#extend(fill, bytes)]) {
        await more();
        fill = this.#fill();
        if (this.#fits(purpose, fill, bytes)) break;
      }
      if (!this.#fits(purpose, fill, bytes) && !(purpose === "growth" && this.#fitsFreePages(fill, bytes))) {
        this.#refuse(purpose, this.#failure?.reason ?? "the file does not grow");
      }
    }
    this.#extendAhead(fill, bytes);
  }

  /** Looks whether a disk that was full has space again. Otherwise the next thing that makes the store larger does. */
  async look(): Promise<void> {
    if (this.#isShort) await this.#extend(this.#fill(), 0);
  }

  /** Waits for what is being allocated. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#extending;
  }

  #fill(): Fill {
    const file = statsOf(this.#tables.root);
    const used = (file.lastPageNumber + 1) * file.pageSize;
    const target = Math.min(this.#reserve(), Math.max(minReserve, used / 4));
    return { used, headroom: Math.max(0, this.#file.end - used), target, file };
  }

  /** What stays free on the disk, in bytes: of a small one an eighth. */
  #reserve(): number {
    return Math.min(this.#options.reserve, (this.#disk?.space?.total ?? Infinity) / 8);
  }

  /** Growth leaves half of the target to what releases space, and that leaves what the next start needs. */
  #fits(purpose: Purpose, { headroom, target }: Fill, bytes: number): boolean {
    return headroom - bytes >= (purpose === "growth" ? target / 2 : Math.min(startBytes, target / 4));
  }

  /**
   * Whether there are so many free pages within the file that LMDB will most probably write there. Where it does not,
   * because a large value needs pages in a row, it takes a part of the headroom that growth leaves otherwise.
   */
  #fitsFreePages({ used, headroom, target, file }: Fill, bytes: number): boolean {
    if (headroom - bytes < target / 8) return false;
    const { root, ...tables } = this.#tables;
    // Two meta pages, and what the tree of tables, the list of free pages and the tables have.
    let taken = 2 + pagesOf(statsOf(root)) + pagesOf(file.free);
    for (const table of Object.values(tables)) taken += pagesOf(statsOf(table as Pick<Database, "getStats">));
    return used - taken * file.pageSize >= Math.max(4 * bytes, used / 8);
  }

  #refuse(purpose: Purpose, reason: string): never {
    const { dir, onWarning } = this.#options;
    this.#refusals++;
    if (purpose === "growth" && !this.#isShort) {
      this.#isShort = true;
      onWarning(
        `the disk of ${dir} is full (${reason}): appends are refused until there is space; reads, trims and deletes go on`,
      );
    }
    const detail = `the disk of ${dir} is full, ${reason}: free some space on it, or trim or delete streams`;
    throw new DomainError({ kind: "store-full", detail });
  }

  #extendAhead(fill: Fill, bytes: number): void {
    const step = stepOf(fill);
    if (fill.headroom - bytes < fill.target + step) void this.#extend(fill, bytes + step);
  }

  /** Allocates the target, a step and `bytes`, or what the disk has. Never rejects: `#failure` has the reason. */
  #extend(fill: Fill, bytes: number): Promise<void> {
    if (this.#closed || (this.#failure !== undefined && performance.now() - this.#failure.atMs < retryMs)) {
      return Promise.resolve();
    }
    return (this.#extending ??= this.#allocate(fill, bytes)
      .catch((error: unknown) => {
        this.#failure = { atMs: performance.now(), reason: toError(error).message };
      })
      .finally(() => {
        this.#extending = undefined;
      }));
  }

  async #allocate(fill: Fill, bytes: number): Promise<void> {
    const disk = await this.#diskSpace(0);
    const wanted = fill.target + stepOf(fill) + bytes - fill.headroom;
    const spare = disk === undefined ? Infinity : disk.free - this.#reserve();
    // What releases space is what the reserve is for.
    const kept = Math.min(disk?.free ?? 0, fill.target / 2 - fill.headroom);
    const blocks = Math.min(Math.max(1, Math.ceil(wanted / block)), Math.floor(Math.max(spare, kept) / block));
    if (disk !== undefined && blocks <= 0) throw new Error(describeFree(disk, this.#reserve()));
    await this.#file.extend(blocks * block);
    this.#failure = undefined;
    if (this.#isShort && spare >= wanted) {
      this.#isShort = false;
      this.#options.onWarning(`the disk of ${this.#options.dir} has space again: appends are stored`);
    }
  }

  async #diskSpace(maxAgeMs: number): Promise<DiskSpace | undefined> {
    if (this.#disk === undefined || performance.now() - this.#disk.atMs > maxAgeMs) {
      this.#disk = { atMs: performance.now(), space: await diskSpace(this.#options.dir) };
    }
    return this.#disk.space;
  }
}

/** Up to the end of LMDB's last page. */
function usedBytes(root: Tables["root"]): number {
  const { lastPageNumber, pageSize } = statsOf(root);
  return (lastPageNumber + 1) * pageSize;
}

function stepOf({ used }: Fill): number {
  return Math.min(steps.max, Math.max(steps.min, used / 8));
}

function describeFree({ free }: DiskSpace, reserve: number): string {
  return `it has ${free} bytes free, of which --disk-reserve keeps ${Math.floor(reserve)}`;
}
