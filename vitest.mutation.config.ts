import { defineConfig } from "vitest/config";

/**
 * The tests that judge mutants: those of the parts that are mutated, without the ones that start processes, because a
 * mutant is active in the process of its test only. `SLUICE_TEST_MUTATION` picks some of them, as patterns with blanks
 * between, so that a run over one part does not wait for the tests of the others.
 */
const all = [
  "test/async/signals.test.ts",
  "test/auth/*.test.ts",
  "test/compose/{access,gate,jwks,reload,replaced,routes}.test.ts",
  "test/client/{backoff,exactly-once,exchange,identity,producers,retries,server-ends}.test.ts",
  "test/contract/*.test.ts",
  "test/services/*.test.ts",
  "test/store/*.test.ts",
];

export default defineConfig({
  test: {
    include: process.env["SLUICE_TEST_MUTATION"]?.split(" ") ?? all,
    exclude: ["test/store/{lmdb-files,lmdb-format,lmdb-page-bound}.test.ts", "node_modules/**"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 25_000 } },
  },
});
