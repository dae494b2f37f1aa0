import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { openLmdbStore } from "../../src/store/lmdb.ts";
import { describeStore } from "./store-contract.ts";

describeStore("lmdb", async (options) => {
  const dir = await mkdtemp(join(tmpdir(), "sluice-lmdb-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return openLmdbStore({ dir, maxBytes: 2 ** 30, ...options });
});
