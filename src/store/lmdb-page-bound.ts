import type { Database } from "lmdb";

/** An LMDB tree as its statistics describe it. */
export interface TreeStats {
  readonly treeDepth: number;
  readonly treeBranchPageCount: number;
  readonly treeLeafPageCount: number;
  readonly overflowPages: number;
}

/** LMDB's file as its statistics describe it. */
export interface FileStats {
  /** The tree that lists the free pages. */
  readonly free: TreeStats;
  readonly lastPageNumber: number;
  /** In bytes. */
  readonly pageSize: number;
}

/** Statistics of a table, and of the file that it is in. */
export type TableStats = TreeStats & FileStats;

/** Takes some microseconds. lmdb's types do not say what it returns. */
export function statsOf(table: Pick<Database, "getStats">): TableStats {
  return table.getStats() as unknown as TableStats;
}

/** Stands for any tree: with five levels, and keys of some hundred bytes at most, one has terabytes. */
const anyTree: TreeStats = {
  treeDepth: 5,
  treeBranchPageCount: Infinity,
  treeLeafPageCount: Infinity,
  overflowPages: Infinity,
};

/** The most bytes by which a transaction makes the file grow. */
export interface Growth {
  /** Without a look at the tables: takes no time, and is many times too much. */
  rough(this: void, file: FileStats): number;
  /** From the tables' statistics, which are read: some microseconds for each. */
  exact(this: void, file: FileStats): number;
}

/** What a transaction changes in one tree. */
export interface TreeChanges {
  /** Keys that are put, each counted once. */
  puts: number;
  /** Keys and values that are put, as far as they may be stored in leaves, in bytes. */
  leafBytes: number;
  /** Pages that hold large values by themselves. */
  overflowPages: number;
  /** Keys that are removed one by one. */
  removals: number;
  /** Removals of keys that follow each other. */
  runs: number;
  /** Pages of large values that removals free. */
  freedPages: number;
}

export function noChanges(): TreeChanges {
  return { puts: 0, leafBytes: 0, overflowPages: 0, removals: 0, runs: 0, freedPages: 0 };
}

/** The smallest page that LMDB is run with here, in bytes: in larger ones the same takes fewer pages. */
const smallestPage = 4096;
/** A value beyond this may get pages of its own: LMDB does so when a leaf would hold less than two nodes, at about 2,000. */
const overflowFrom = 1024;
/** The header of the pages of a large value, in bytes (mdb.c, PAGEHDRSZ, with lmdb-js's transaction id). */
const pageHeader = 24;
/** An id of a freed page in LMDB's list of them, in bytes. */
const pageIdSize = 8;
/** Pages of the tree of trees, and of small records of the free list. */
const fixedPages = 16;

/** Adds a put of this size, in bytes. `isNew`: the transaction has not changed this key before. */
export function addPut(changes: TreeChanges, keySize: number, valueSize: number, isNew: boolean): void {
  if (isNew) changes.puts++;
  changes.leafBytes += keySize + Math.min(valueSize, smallestPage / 2);
  if (valueSize > overflowFrom) changes.overflowPages += overflowPagesOf(valueSize);
}

/** Pages that a value of this size takes for itself, at most. */
export function overflowPagesOf(size: number): number {
  return Math.ceil((size + pageHeader) / smallestPage);
}

/**
 * The most bytes by which a transaction may make the file grow: as if LMDB found no free page in it.
 *
 * LMDB copies each page that it changes, from the leaf up to the root. A change touches its leaf and at most one sibling,
 * with which the leaf is merged. A put may split its leaf, but a page that was split must be filled before it splits
 * anew. A run of removals frees the leaves that it has emptied, and LMDB takes those first when it copies the next.
 */
function growthBound(trees: readonly (readonly [TreeStats, TreeChanges])[], { free, pageSize }: FileStats): number {
  let pages = fixedPages;
  let freed = 0;
  for (const [stats, changes] of trees) {
    const depth = stats.treeDepth + 1;
    const touched = 2 * (changes.puts + changes.removals) + 4 * changes.runs;
    const leaves = Math.min(touched, stats.treeLeafPageCount);
    const branches = Math.min(touched * depth, stats.treeBranchPageCount);
    const leafSplits = Math.min(
      changes.puts,
      stats.treeLeafPageCount + 1 + Math.ceil((4 * changes.leafBytes) / smallestPage),
    );
    const branchSplits =
      Math.min(leafSplits, stats.treeBranchPageCount + 1 + Math.ceil(leafSplits / 2)) + (leafSplits > 0 ? depth : 0);
    pages += leaves + branches + leafSplits + branchSplits + changes.overflowPages;
    freed += leaves + branches + Math.min(changes.freedPages, stats.overflowPages);
  }
  // The list of free pages is a tree too. A commit adds what it frees, and may rewrite what it has read.
  pages += 2 * pagesOf(free);
  pages += 2 * Math.ceil((freed * pageIdSize) / smallestPage);
  return pages * pageSize;
}

/** Pages of a tree. */
export function pagesOf({ treeBranchPageCount, treeLeafPageCount, overflowPages }: TreeStats): number {
  return treeBranchPageCount + treeLeafPageCount + overflowPages;
}

/** By how much a transaction that changes these tables makes their file grow. */
export function growthOf(changes: ReadonlyMap<Database, TreeChanges>): Growth {
  const trees = [...changes];
  return {
    rough: (file) =>
      growthBound(
        trees.map(([, each]) => [anyTree, each]),
        file,
      ),
    exact: (file) =>
      growthBound(
        trees.map(([table, each]) => [statsOf(table), each]),
        file,
      ),
  };
}
