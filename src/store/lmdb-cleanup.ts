import type { Committer } from "./lmdb-commit.ts";
import { producerWindow } from "./append-rules.ts";
import { removalChunk } from "./lmdb-batches.ts";
import type { Tables } from "./lmdb-env.ts";

/** Removes, some at a time, what deleted streams have left. */
export async function collectGarbage(tables: Tables, committer: Committer): Promise<void> {
  const { garbage, batches, producers, positions } = tables;
  for (const id of [...garbage.getKeys({})]) {
    for (let left = true; left;) {
      left = await committer.submit((commit) => {
        // Each table's keys begin with the id of the stream.
        const range = { start: [id], end: [id + 1], limit: removalChunk } as object;
        const found = {
          batches: [...batches.getKeys(range)],
          producers: [...producers.getKeys(range)],
          positions: [...positions.getKeys(range)],
        };
        for (const key of found.batches) commit.remove(batches, key);
        for (const key of found.producers) commit.remove(producers, key);
        for (const key of found.positions) commit.remove(positions, key);
        const removed = found.batches.length + found.producers.length + found.positions.length;
        if (removed === 0) commit.remove(garbage, id);
        return removed > 0;
      });
    }
  }
}

/** Forgets producers that have been idle since `beforeMs`. */
export async function forgetProducers(tables: Tables, committer: Committer, beforeMs: number): Promise<void> {
  const { producers, positions } = tables;
  const idle: [number, string][] = [];
  for (const { key, value } of producers.getRange({})) {
    if (value.lastTimeMs < beforeMs) idle.push(key);
  }
  for (const key of idle) {
    await committer.submit((commit) => {
      const row = commit.get(producers, key);
      if (row === undefined || row.lastTimeMs >= beforeMs) return;
      commit.remove(producers, key);
      const first = Math.max(0, row.nextProducerSeq - producerWindow);
      for (let seq = first; seq < row.nextProducerSeq; seq++) commit.remove(positions, [...key, seq]);
    });
  }
}
