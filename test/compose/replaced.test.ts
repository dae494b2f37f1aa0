import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, it, onTestFinished } from "vitest";
import type { SluiceClient } from "../../src/client/index.ts";
import { until, within } from "../support/deadline.ts";
import { startServerProcess } from "../support/server-process.ts";
import { useSluiceClient } from "../support/sluice-client.ts";

/** Appends until an append fails. What was acked, and what the last one failed with. */
async function appendUntilFailure(client: SluiceClient, name: string, count = Infinity) {
  const acked: string[] = [];
  try {
    for (let i = 0; i < count; i++) {
      const text = `${name} ${i}`;
      await client.data.append("s", [{ data: text }], { createIfMissing: true });
      acked.push(text);
    }
    return { acked, failure: undefined };
  } catch (error) {
    return { acked, failure: ConnectError.from(error) };
  }
}

// Both would read the same tail, and store under the same numbers.
it("a server whose directory another one has taken over stores nothing more, and ends", async () => {
  const dataDir = await mkdtemp(join(tmpdir(), "sluice-replaced-"));
  onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
  const first = await startServerProcess([], { dataDir });
  const writing = Array.from({ length: 8 }, (_, i) => appendUntilFailure(useSluiceClient(first.url), `first ${i}`));
  const probe = useSluiceClient(first.url);
  await until(10_000, "some appends", async () => {
    const stream = await probe.data.getStream("s").catch(() => undefined);
    return (stream?.tail ?? 0n) > 50n;
  });
  // Nobody can be asked any more whether the first server is there: another host, a container, or `rm`.
  for (const name of await readdir(dataDir)) {
    if (name.endsWith(".sock")) await rm(join(dataDir, name));
  }
  const second = await startServerProcess([], { dataDir });
  const client = useSluiceClient(second.url);
  const own = await appendUntilFailure(client, "second", 200);
  const results = await within(20_000, "the end of the first server's appends", Promise.all(writing));
  for (const { failure } of results) {
    // One that reaches the server as it drains is refused before it is processed.
    if (failure?.rawMessage.includes("REFUSED_STREAM") !== true) expect(failure?.code).toBe(Code.Unavailable);
  }
  expect(await within(20_000, "the end of the first server", first.exited)).toBe(1);
  expect(first.log).toContain("another process has taken over the data directory");
  const stored = new Map<string, number>();
  for await (const { data } of client.data.read("s")) {
    const text = Buffer.from(data).toString();
    stored.set(text, (stored.get(text) ?? 0) + 1);
  }
  expect(own.failure).toBe(undefined);
  const acked = [...results.flatMap((result) => result.acked), ...own.acked];
  expect(acked.filter((text) => stored.get(text) !== 1)).toEqual([]);
});
