import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Lanes that need programs which `npm ci` does not bring; CI runs them with `npm run interop`.
    exclude: ["test/interop/**", "node_modules/**"],
    // What hangs is named by its own deadline (test/support/deadline.ts), which is shorter.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 25_000 } },
    coverage: { provider: "v8", include: ["src/**"], reporter: ["text-summary", "text"] },
  },
});
