import { defineConfig } from "vitest/config";

// Lanes that need programs which `npm ci` does not bring: Chromium, Go, grpcurl, Caddy, ngtcp2, strace, mkfs.ext4.
export default defineConfig({
  test: {
    include: ["test/interop/**/*.test.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 25_000 } },
  },
});
