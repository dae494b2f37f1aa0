import fc from "fast-check";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { isDomainError } from "../../src/errors.ts";
import { openLmdbStore } from "../../src/store/lmdb.ts";
import { findingsOf } from "../support/store-check.ts";
import { createMemoryStore } from "../../src/store/memory.ts";
import type { AppendInput, Appender, AppenderOptions, Store } from "../../src/store/store.ts";
import { within } from "../support/deadline.ts";
import { operations, streamNames } from "./operations.ts";
import type { Operation } from "./operations.ts";
import { Reference, Refused } from "./reference.ts";
import type { ReferenceAppender } from "./reference.ts";

/** A store, how to open it again, and a clock for it. */
interface Subject {
  readonly store: () => Store;
  readonly reopen: () => Promise<void>;
  readonly clock: { nowMs: number };
}

/** For operations whose results are compared in another way. */
async function quiet(work: Promise<unknown>): Promise<void> {
  await work;
}

/** What an operation comes to: a value, or the kind of its refusal. */
async function outcome(run: () => unknown): Promise<unknown> {
  try {
    return { value: await within(10_000, "the end of the operation", Promise.resolve(run())) };
  } catch (error) {
    if (error instanceof Refused) return { refused: error.kind };
    if (isDomainError(error)) return { refused: error.problem.kind };
    throw error;
  }
}

/** Plays the operations on both, and compares each outcome and what there is afterwards. */
async function play(subject: Subject, prefix: string, operations: readonly Operation[]): Promise<void> {
  const reference = new Reference();
  reference.nowMs = subject.clock.nowMs;
  const slots = new Map<number, { mine: ReferenceAppender; theirs: Appender }>();
  const tail = (stream: string): number => reference.tailOf(stream) ?? 0;

  async function same(run: { mine: () => unknown; theirs: () => unknown }, what: unknown): Promise<void> {
    const expected = await outcome(run.mine);
    expect(await outcome(run.theirs), JSON.stringify(what)).toEqual(expected);
  }

  async function describeAll(): Promise<void> {
    const store = subject.store();
    await same(
      {
        mine: () => reference.list(prefix),
        theirs: async () =>
          (await store.list({ ranges: [{ from: prefix, to: `${prefix}\x7f` }], limit: 10 })).map((info) => info.name),
      },
      "list",
    );
    for (const each of streamNames) {
      const stream = prefix + each;
      await same({ mine: () => reference.describe(stream), theirs: () => infoOf(store, stream) }, `get ${stream}`);
    }
  }

  for (const operation of operations) {
    const store = subject.store();
    switch (operation.op) {
      case "create":
      case "delete": {
        const stream = prefix + operation.name;
        const { op } = operation;
        await same(
          {
            mine: () => {
              reference[op](stream);
            },
            theirs: () => quiet(store[op](stream)),
          },
          operation,
        );
        break;
      }
      case "trim": {
        const stream = prefix + operation.name;
        const before = Math.max(0, tail(stream) - operation.behind);
        const mine = (): void => {
          reference.trim(stream, before);
        };
        await same({ mine, theirs: () => quiet(store.trim(stream, before)) }, operation);
        break;
      }
      case "seal": {
        const stream = prefix + operation.name;
        const options = sealOf(operation, tail(stream));
        const mine = (): void => {
          reference.seal(stream, options);
        };
        await same({ mine, theirs: () => quiet(store.seal(stream, options)) }, operation);
        break;
      }
      case "open": {
        const { name, slot, createIfMissing, expected, producer } = operation;
        const stream = prefix + name;
        const options: AppenderOptions = {
          stream,
          createIfMissing,
          ...(producer === undefined ? {} : { producer }),
          ...(expected === undefined ? {} : { expectedSeq: Math.max(0, tail(stream) + expected) }),
        };
        let mine: ReferenceAppender | undefined;
        let theirs: Appender | undefined;
        await same(
          {
            mine: () => {
              const { appender, described } = reference.open(options);
              mine = appender;
              return described;
            },
            theirs: async () => {
              theirs = await store.openAppender(options);
              const { tail, firstSeq, nextProducerSeq } = theirs;
              return { tail, firstSeq, nextProducerSeq };
            },
          },
          operation,
        );
        if (mine !== undefined && theirs !== undefined) slots.set(slot, { mine, theirs });
        break;
      }
      case "claim": {
        const stream = prefix + operation.name;
        const { id } = operation;
        const mine = (): number => reference.claim(stream, id);
        const theirs = async (): Promise<number> =>
          (await store.claimProducer({ stream, producerId: id, createIfMissing: true })).epoch;
        await same({ mine, theirs }, operation);
        break;
      }
      case "append": {
        const slot = slots.get(operation.slot);
        if (slot === undefined) break;
        const { stream, producer } = slot.mine.options;
        const expected: Promise<unknown>[] = [];
        const actual: Promise<unknown>[] = [];
        for (const { texts, seq, seal } of operation.batches) {
          if (texts.length === 0 && seal === undefined) continue;
          const next = producer && reference.nextProducerSeq(stream, producer.id, producer.epoch);
          const input: AppendInput = {
            records: texts.map((text) => ({ data: Buffer.from(text), headers: {} })),
            ...(next === undefined ? {} : { producerSeq: Math.max(0, next + seq) }),
            ...(seal === undefined ? {} : { seal: sealOf(seal, tail(stream)) }),
          };
          expected.push(outcome(() => reference.append(slot.mine, input)));
          actual.push(outcome(() => slot.theirs.append(input)));
        }
        expect(await Promise.all(actual), JSON.stringify(operation)).toEqual(await Promise.all(expected));
        break;
      }
      case "read": {
        const { maxRecords, maxBytes, behind } = operation;
        const stream = prefix + operation.name;
        const from = Math.max(0, tail(stream) - behind);
        const limits = { maxRecords, maxBytes };
        const theirs = async (): Promise<object> => {
          const { batches, nextSeq } = await store.read(stream, from, limits);
          const found = batches.flatMap(({ firstSeq, timeMs, records }) =>
            records.map(({ data }, i) => ({ seq: firstSeq + i, timeMs, text: Buffer.from(data).toString() })),
          );
          return { found, nextSeq };
        };
        await same({ mine: () => reference.read(stream, from, limits), theirs }, operation);
        break;
      }
      case "seqAtTime": {
        const stream = prefix + operation.name;
        const ms = reference.nowMs + operation.ms;
        await same(
          { mine: () => reference.seqAtTime(stream, ms), theirs: () => store.seqAtTime(stream, ms) },
          operation,
        );
        break;
      }
      case "tick":
        // Clocks are set back, too.
        reference.nowMs += operation.ms;
        subject.clock.nowMs = reference.nowMs;
        break;
      case "reopen":
        slots.clear();
        await subject.reopen();
        break;
    }
  }
  await describeAll();
}

async function infoOf(store: Store, stream: string): Promise<object> {
  const { head, tail, bytes, sealed, checksum, createTimeMs, appendTimeMs } = await store.get(stream);
  const plain = checksum && { firstSeq: checksum.firstSeq, sha256: Buffer.from(checksum.sha256) };
  return { head, tail, bytes, sealed, checksum: plain, createTimeMs, appendTimeMs };
}

function sealOf(
  seal: { expected: number | undefined; checksum: { sha256: Buffer; firstSeq: number } | undefined },
  tail: number,
): { expectedSeq?: number; checksum?: { sha256: Buffer; firstSeq: number } } {
  return {
    ...(seal.expected === undefined ? {} : { expectedSeq: Math.max(0, tail + seal.expected) }),
    ...(seal.checksum === undefined ? {} : { checksum: seal.checksum }),
  };
}

describe("any sequence of operations comes to what the plain reference says", () => {
  it("memory", { timeout: 240_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(operations, async (played) => {
        const clock = { nowMs: 1_000_000 };
        const store = createMemoryStore({ now: () => clock.nowMs });
        await play({ store: () => store, reopen: () => Promise.resolve(), clock }, "m/", played);
      }),
      { numRuns: 1000, interruptAfterTimeLimit: 5000 },
    );
  });

  it("lmdb, also when it is closed and opened again", { timeout: 240_000 }, async () => {
    const dir = await mkdtemp(join(tmpdir(), "sluice-model-"));
    const clock = { nowMs: 1_000_000 };
    const open = (): Promise<Store> =>
      openLmdbStore({ dir, maxBytes: 2 ** 30, producerTtlMs: 10_000, now: () => clock.nowMs });
    let store = await open();
    let runs = 0;
    try {
      await fc.assert(
        fc.asyncProperty(operations, async (played) => {
          const reopen = async (): Promise<void> => {
            await store.close();
            store = await open();
          };
          // One store for all runs, because opening one takes longer than a run.
          await play({ store: () => store, reopen, clock }, `run${++runs}/`, played);
        }),
        { numRuns: 60, interruptAfterTimeLimit: 6000 },
      );
      // All that it counts, and what it has on the disk, is in step.
      expect(await findingsOf(dir)).toEqual([]);
    } finally {
      await store.close();
      await rm(dir, { recursive: true, force: true });
    }
  });
});
