import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { exitCodes } from "../../src/cli/exit-codes.ts";
import { runCli, startServer, tempDir } from "../support/cli.ts";

// Node's recursive mkdir tries for ever where the system answers ENOENT below a directory that exists.
describe("serve, with a data directory that has to be made", () => {
  it.runIf(process.platform === "linux")("says that it cannot be made in /proc", async () => {
    const { code, stderr } = await runCli(["serve", "--port", "0", "--data-dir", "/proc/sluice/data"]);
    expect(stderr).toContain("the data directory /proc/sluice/data cannot be used (ENOENT");
    expect(code).toBe(exitCodes.failure.code);
  });

  it("makes it with the directories above it, and takes it when it is there", async () => {
    const dir = join(await tempDir(), "one/two/three");
    for (let run = 0; run < 2; run++) {
      const { cli } = await startServer(["--store", "lmdb", "--data-dir", dir]);
      cli.kill("SIGTERM");
      expect((await cli.done).code).toBe(0);
    }
  });
});
