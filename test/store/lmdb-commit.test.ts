import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open } from "lmdb";
import { describe, expect, it, onTestFinished } from "vitest";
import { Committer } from "../../src/store/lmdb-commit.ts";
import { within } from "../support/deadline.ts";

describe("a group commit that fails", () => {
  it("leaves nothing behind, and has what it refused decided again", async () => {
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
    broken = false;
    await expect(within(10_000, "the second", second)).resolves.toBe("second");
    expect(table.get("key")).toBe("second");
    await expect(claim("third")).rejects.toThrow("second has it");
    await committer.close();
  });
});
