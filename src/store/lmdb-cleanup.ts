import { DomainError } from "../errors.ts";
import type { TimeSlice } from "../async/time-slice.ts";
import { producerWindow } from "./append-rules.ts";
import type { ProducerState } from "./append-rules.ts";
import { removalChunk, removalChunkBytes } from "./lmdb-batches.ts";
import type { Commit, Committer } from "./lmdb-commit.ts";
import { positionCost, producerCost } from "./lmdb-costs.ts";
import type { Tables } from "./lmdb-env.ts";
import { overflowPagesOf } from "./lmdb-page-bound.ts";
import type { OpenProducers } from "./open-producers.ts";

/** Removes, some at a time, what deleted streams have left. */
export async function collectGarbage(tables: Tables, committer: Committer): Promise<void> {
  const { garbage, batches, producers, positions } = tables;
  for (;;) {
    const [id] = garbage.getKeys({ limit: 1 });
    if (id === undefined) return;
    for (let left = true; left;) {
      left = await committer.submit((commit) => {
        // Each table's keys begin with the id of the stream.
        const range = { start: [id], end: [id + 1], limit: removalChunk } as object;
        const found = {
          ...someBatches(batches, range),
          producers: [...producers.getKeys(range)],
          positions: [...positions.getKeys(range)],
        };
        commit.removeRun(batches, found.batches, found.pages);
        commit.removeRun(producers, found.producers);
        commit.removeRun(positions, found.positions);
        let freed = 0;
        for (const [, producerId] of found.producers) freed += producerCost(producerId);
        for (const [, producerId] of found.positions) freed += positionCost(producerId);
        commit.free(freed);
        const removed = found.batches.length + found.producers.length + found.positions.length;
        if (removed === 0) commit.remove(garbage, id);
        return removed > 0;
      });
    }
  }
}

/** The keys of batches that one commit removes, and the pages that they have for themselves. */
function someBatches(
  table: Tables["batches"],
  range: object,
): { readonly batches: [number, number][]; readonly pages: number } {
  const batches: [number, number][] = [];
  let pages = 0;
  let bytes = 0;
  for (const { key, value } of table.getRange(range)) {
    batches.push(key);
    pages += overflowPagesOf(value.byteLength);
    bytes += value.byteLength;
    if (bytes > removalChunkBytes) break;
  }
  return { batches, pages };
}

/** Removes the positions of a producer's batches: as many as its window holds of the numbers that it has used. */
export function forgetPositions(
  { positions }: Tables,
  commit: Commit,
  producer: [number, string],
  state: ProducerState | undefined,
): void {
  const next = state?.nextProducerSeq ?? 0;
  const keys: [number, string, number][] = [];
  for (let seq = Math.max(0, next - producerWindow); seq < next; seq++) keys.push([...producer, seq]);
  commit.removeRun(positions, keys);
  commit.free(keys.length * positionCost(producer[1]));
}

/** Producers that one sweep looks at, at most; the next one goes on with the others. */
const producersPerSweep = 20_000;
/** Those that are read together, between two looks at the time. */
const producersAtOnce = 100;

/** Which producers are to be forgotten. */
export interface Idle {
  /** Those that were used last before this, in milliseconds since the Unix epoch. */
  readonly before: number;
  readonly nowMs: number;
  /** Not those. */
  readonly open: OpenProducers;
}

/**
 * Forgets the producers behind `after` that are idle. Those that were used in the future, because the clock had been ahead,
 * count as used now. Returns where the next sweep goes on.
 */
export async function forgetProducers(
  tables: Tables,
  committer: Committer,
  idle: Idle,
  after: [number, string] | undefined,
  slice: TimeSlice,
): Promise<[number, string] | undefined> {
  const { producers } = tables;
  let last = after;
  for (let looked = 0; looked < producersPerSweep; looked += producersAtOnce) {
    const range = { ...(last === undefined ? {} : { start: last, exclusiveStart: true }), limit: producersAtOnce };
    const page = [...producers.getRange(range)];
    let forgetting: Promise<void>[] = [];
    let removals = 0;
    for (const { key, value } of page) {
      if (value.lastTimeMs > idle.nowMs) forgetting.push(useNow(tables, committer, key, idle.nowMs));
      if (value.lastTimeMs >= idle.before || idle.open.has(...key)) continue;
      forgetting.push(
        committer.submit((commit) => {
          const row = commit.get(producers, key);
          if (row === undefined || row.lastTimeMs >= idle.before || idle.open.has(...key)) return;
          // It goes, and is counted, with the rest of its stream.
          if (commit.get(tables.garbage, key[0]) !== undefined) return;
          commit.remove(producers, key);
          commit.free(producerCost(key[1]));
          forgetPositions(tables, commit, key, row);
        }),
      );
      removals += Math.min(value.nextProducerSeq, producerWindow);
      if (removals < removalChunk) continue;
      await Promise.all(forgetting);
      slice.check();
      forgetting = [];
      removals = 0;
    }
    await Promise.all(forgetting);
    slice.check();
    if (page.length < producersAtOnce) return undefined;
    last = page.at(-1)?.key;
    if (slice.isOver) await slice.next();
  }
  return last;
}

/** Counts a producer as idle from now on. */
export async function useNow(
  { producers }: Tables,
  committer: Committer,
  key: [number, string],
  nowMs: number,
): Promise<void> {
  try {
    await committer.submit((commit) => {
      const row = commit.get(producers, key);
      if (row !== undefined) commit.put(producers, key, { ...row, lastTimeMs: nowMs });
    });
  } catch (error) {
    // Then it may be forgotten sooner or later than it should be. What is wrong with the store, the next append tells.
    if (!(error instanceof DomainError)) throw error;
  }
}
