import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open } from "lmdb";
import type { Database } from "lmdb";
import { describe, expect, it, onTestFinished } from "vitest";
import { DomainError } from "../../src/errors.ts";
import { Committer } from "../../src/store/lmdb-commit.ts";
import { within } from "../support/deadline.ts";

interface Broken {
  readonly committer: Committer;
  readonly broken: Error[];
}

/** A committer whose directory has been removed. `fail` runs before each commit is written. */
async function useGone(fail: (meta: Database<unknown, string>) => void): Promise<Broken> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-commit-"));
  const root = open({ path: dir, overlappingSync: false, eventTurnBatching: false });
  const meta = root.openDB<unknown, string>({ name: "meta", encoding: "json" });
  onTestFinished(() => root.close());
  await rm(dir, { recursive: true });
  const broken: Error[] = [];
  const committer = new Committer({
    dir,
    meta,
    lostKey: "lost",
    complete(commit) {
      commit.put(meta, "key", 1);
      fail(meta);
    },
    onBroken: (failure) => broken.push(failure),
  });
  return { committer, broken };
}

describe("a group commit that fails", () => {
  it("rejects what waits for it when the directory is gone, and takes more", async () => {
    const { committer, broken } = await useGone(() => {
      throw new Error("the disk");
    });
    for (let i = 0; i < 2; i++) {
      const work = within(
        10_000,
        "the end of an operation",
        committer.submit(() => i),
      );
      await expect(work).rejects.toMatchObject({ problem: { kind: "store-unavailable", detail: "the disk" } });
    }
    expect(broken).toEqual([]);
    await committer.close();
  });

  it("rejects everything later once another process owns the store, however full the disk is", async () => {
    const { committer, broken } = await useGone((meta) => {
      meta.putSync("lost", true);
    });
    for (let i = 0; i < 2; i++) {
      const work = within(
        10_000,
        "the end of an operation",
        committer.submit(() => i),
      );
      await expect(work).rejects.toMatchObject({ problem: { kind: "store-unavailable" } });
    }
    expect(broken).toHaveLength(1);
    await committer.close();
  });

  it("leaves nothing behind, and decides again on what it refused", async () => {
    const dir = await mkdtemp(join(tmpdir(), "sluice-commit-"));
    const root = open({ path: dir, overlappingSync: false, eventTurnBatching: false });
    const table = root.openDB<string, string>({ name: "table", encoding: "json" });
    onTestFinished(async () => {
      await root.close();
      await rm(dir, { recursive: true });
    });
    let broken = true;
    const committer = new Committer({
      dir,
      meta: root.openDB<unknown, string>({ name: "meta", encoding: "json" }),
      lostKey: "lost",
      complete() {
        if (broken) throw new Error("the disk");
      },
      onBroken: () => undefined,
    });
    const claim = (owner: string): Promise<string> =>
      committer.submit((commit) => {
        const taken = commit.get(table, "key");
        if (taken !== undefined) throw new Error(`${taken} has it`);
        commit.put(table, "key", owner);
        // The next commit works.
        if (owner === "second") broken = false;
        return owner;
      });
    // In one turn, and so in one commit: the second is refused for what the first would have written.
    const first = claim("first");
    const second = claim("second");
    await expect(within(10_000, "the first", first)).rejects.toThrow("the disk");
    await expect(within(10_000, "the second", second)).resolves.toBe("second");
    expect(table.get("key")).toBe("second");
    await expect(claim("third")).rejects.toThrow("second has it");
    await committer.close();
  });
});

describe("a group commit for which the disk has no room", () => {
  it("is made smaller, and refuses only the operations that do not fit by themselves", async () => {
    const dir = await mkdtemp(join(tmpdir(), "sluice-commit-"));
    const root = open({ path: dir, overlappingSync: false, eventTurnBatching: false });
    const table = root.openDB<string, number>({ name: "table", encoding: "json" });
    onTestFinished(async () => {
      await root.close();
      await rm(dir, { recursive: true });
    });
    const full = new DomainError({ kind: "store-full", detail: "no room" });
    let counted = 0;
    const committer = new Committer({
      dir,
      meta: root.openDB<unknown, string>({ name: "meta", encoding: "json" }),
      lostKey: "lost",
      complete: () => undefined,
      // Room for two keys; what grows has none.
      admit: (commit) => {
        const puts = commit.changes.get(table)?.puts ?? 0;
        return puts > 2 || commit.purpose === "growth" ? Promise.reject(full) : Promise.resolve();
      },
      onBroken: () => undefined,
    });
    const put = (key: number, grows: boolean): Promise<number> =>
      committer.submit((commit) => {
        if (grows) commit.grows();
        counted++;
        commit.onFailure(() => counted--);
        commit.put(table, key, "value");
        return key;
      });
    const repeat = committer.submit((commit) => commit.get(table, 0));
    const outcomes = await within(
      10_000,
      "all outcomes",
      Promise.allSettled(Array.from({ length: 9 }, (_, key) => put(key, key % 3 === 0))),
    );
    expect(outcomes.map(({ status }) => status === "fulfilled")).toEqual(
      Array.from({ length: 9 }, (_, key) => key % 3 !== 0),
    );
    expect([...table.getKeys()]).toEqual([1, 2, 4, 5, 7, 8]);
    expect(counted).toBe(6);
    await expect(within(10_000, "an operation that writes nothing", repeat)).resolves.toBeUndefined();
    await committer.close();
  });
});
