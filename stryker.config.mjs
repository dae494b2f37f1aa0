// Mutation tests: `npm run mutation`, see docs/mutation.md.

/** @type {import("@stryker-mutator/api/core").PartialStrykerOptions} */
export default {
  mutate: [
    "src/auth/**/*.ts",
    "src/client/{retry,appender,exchange,claim-producer,checkpoint}.ts",
    "src/services/**/*.ts",
    "src/store/**/*.ts",
  ],
  testRunner: "vitest",
  // The tests are named by the configuration. What Vite knows of imports would be read anew for each mutant.
  vitest: { configFile: "vitest.mutation.config.ts", related: false },
  plugins: ["@stryker-mutator/vitest-runner", "./scripts/mutation-ignorer.ts"],
  ignorers: ["sentences"],
  coverageAnalysis: "perTest",
  concurrency: 2,
  incremental: true,
  incrementalFile: "reports/mutation/incremental.json",
  reporters: ["progress", "clear-text", "html", "json"],
  clearTextReporter: { allowColor: false, logTests: false, reportTests: false },
  // The sandbox is a copy of the project, but for what no test here reads.
  ignorePatterns: ["/native/target", "/bench/.build", "/bench/results", "/dist", "/coverage", "/reports", "/data"],
  tempDirName: ".stryker-tmp",
  // Vitest strips types and checks none, so the copies need no `@ts-nocheck`.
  disableTypeChecks: false,
};
