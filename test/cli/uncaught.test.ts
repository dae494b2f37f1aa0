import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { createSluiceClient } from "../../src/client/index.ts";
import { within } from "../support/deadline.ts";
import { startServerProcess } from "../support/server-process.ts";

/** Runs in the server's process before anything else: SIGUSR2 stands for a bug that nothing catches. */
function bug(code: string): string {
  return `--import=data:text/javascript,${encodeURIComponent(`process.on("SIGUSR2", () => { ${code} });`)}`;
}

it.each([
  ["an exception", "setTimeout(() => { throw new Error('a bug') })"],
  ["a rejection", "Promise.reject(new Error('a bug'))"],
  ["one after another", "setInterval(() => { throw new Error('a bug') })"],
])("%s that nothing catches is logged as fatal, and the server closes its store and exits with 1", async (_, code) => {
  const dataDir = await mkdtemp(join(tmpdir(), "sluice-uncaught-"));
  onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
  const server = await startServerProcess([], { dataDir, nodeOptions: [bug(code)] });
  const client = createSluiceClient({ url: server.url, token: "sample" });
  onTestFinished(() => client.close());
  const appender = client.data.appender("logs/a", { createIfMissing: true });
  await within(10_000, "the ack", appender.append([{ data: new Uint8Array([1]) }]));
  const following = client.data.read("logs/a", { follow: true });
  await within(10_000, "a record", following.next());

  server.kill("SIGUSR2");
  expect(await within(20_000, "the end of the process", server.exited)).toBe(1);
  expect(server.log).toMatch(/"level":60.*a bug.*at .*exits with 1/);
  expect(server.log).toMatch(/"msg":"closed"/);

  const again = await startServerProcess([], { dataDir });
  const reader = createSluiceClient({ url: again.url, token: "sample" });
  onTestFinished(() => reader.close());
  expect((await reader.data.getStream("logs/a")).tail).toBe(1n);
});

it("a log that cannot be written does not stop the server", async () => {
  const server = await startServerProcess(["--store", "memory"], { stderr: "/dev/full" });
  const client = createSluiceClient({ url: server.url, token: "sample" });
  onTestFinished(() => client.close());
  for (let i = 0; i < 10; i++) {
    const { greeting } = await within(10_000, "an answer", client.greet.greet({ name: "Ada" }));
    expect(greeting).toBe("Hello, Ada!");
  }
  server.kill("SIGTERM");
  expect(await within(20_000, "the end of the process", server.exited)).toBe(0);
});
