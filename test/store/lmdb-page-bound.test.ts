import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { open } from "lmdb";
import type { Database } from "lmdb";
import { expect, it } from "vitest";
import { Commit } from "../../src/store/lmdb-commit.ts";
import { growthOf, statsOf } from "../../src/store/lmdb-page-bound.ts";

type Change =
  | { readonly kind: "put"; readonly key: number; readonly size: number }
  | { readonly kind: "remove"; readonly key: number }
  | { readonly kind: "run"; readonly from: number; readonly count: number };

const keys = 20_000;
const key = fc.nat(keys);
const change: fc.Arbitrary<Change> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("put" as const), key, size: fc.nat(2200) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("put" as const), key, size: fc.nat(100_000) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("remove" as const), key }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("run" as const), from: key, count: fc.nat(500) }) },
);
const transaction = fc.oneof(
  fc.array(change, { maxLength: 5 }),
  fc.array(change, { minLength: 100, maxLength: 400, size: "max" }),
  // What appends do: keys that follow each other.
  fc
    .record({ from: key, count: fc.nat(500), size: fc.nat(1000) })
    .map(({ from, count, size }): Change[] =>
      Array.from({ length: count }, (_, i) => ({ kind: "put", key: from + i, size })),
    ),
);

it("no transaction makes the file grow by more than the bound", async () => {
  let closest = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(transaction, { minLength: 5, maxLength: 30 }), fc.boolean(), async (history, pinned) => {
      const dir = await mkdtemp(join(tmpdir(), "sluice-bound-"));
      const root = open({ path: dir, overlappingSync: false, eventTurnBatching: false, noSync: true });
      try {
        const meta = root.openDB<unknown, string>({ name: "meta", encoding: "json" });
        const tables = ["a", "b"].map((name) => root.openDB<Buffer, [number, number]>({ name, encoding: "binary" }));
        const pinning: { done(): void }[] = [];
        for (const changes of history) {
          // A reader of each state keeps LMDB from taking freed pages, so that each page is new.
          if (pinned) pinning.push(root.useReadTransaction());
          const commit = new Commit();
          for (const [i, each] of changes.entries()) apply(commit, tables[i % 2] as Table, each);
          const growth = growthOf(commit.changes);
          const file = statsOf(root);
          const exact = growth.exact(file);
          expect(growth.rough(file)).toBeGreaterThanOrEqual(exact);
          await commit.flush(meta, "lost");
          const grown = (statsOf(root).lastPageNumber - file.lastPageNumber) * file.pageSize;
          expect(grown).toBeLessThanOrEqual(exact);
          if (grown > 64 * file.pageSize) closest = Math.max(closest, grown / exact);
        }
        for (const each of pinning) each.done();
      } finally {
        await root.close();
        await rm(dir, { recursive: true });
      }
    }),
    { numRuns: 30 },
  );
  // A bound that is far from what happens would keep more space than it is worth.
  console.log(`the bound was used to ${Math.round(100 * closest)} % at most`);
  expect(closest).toBeGreaterThan(0.3);
});

type Table = Database<Buffer, [number, number]>;

function apply(commit: Commit, table: Table, change: Change): void {
  switch (change.kind) {
    case "put":
      commit.put(table, [1, change.key], Buffer.alloc(change.size, 1));
      break;
    case "remove":
      commit.remove(table, [1, change.key]);
      break;
    case "run": {
      const range = { start: [1, change.from], limit: change.count } as object;
      const found = [...table.getKeys(range)] as [number, number][];
      commit.removeRun(table, found, found.length * 25);
      break;
    }
  }
}
