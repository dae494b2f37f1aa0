import { pino } from "pino";
import { expect, it } from "vitest";
import { startServer } from "../support/server.ts";
import { within } from "../support/deadline.ts";
import { doors, enter, useCrowd } from "./peers.ts";

for (const door of doors) {
  it(`requests to unknown paths over ${door} are counted, and sampled in the log`, async () => {
    const lines: Record<string, unknown>[] = [];
    const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>) });
    const { enter, metric } = await useCrowd(door, {}, { log });
    const peer = await enter();
    const paths = [
      "/wp-login.php?user=admin&password=secret",
      `/${"x".repeat(1000)}`,
      "/a%0Ab",
      "/greet.v1.GreetService/No",
    ];
    for (const path of paths) expect(await within(10_000, "an answer", peer.call(path))).toBe(404);
    expect(await metric("sluice_unknown_path_requests_total")).toBe(4);
    const logged = lines.filter(({ requests }) => requests !== undefined);
    expect(logged).toMatchObject([{ level: 30, path: "/wp-login.php", requests: 1 }]);
    expect(JSON.stringify(lines)).not.toContain("secret");
    expect(await within(10_000, "an answer", peer.call())).toBe(200);
  });
}

it("requests to unknown paths that were not logged yet are logged at the close, by one example that is cut", async () => {
  const lines: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>) });
  const server = await startServer({}, { log });
  const peer = await enter("http2", server);
  await peer.call("/first");
  for (let i = 0; i < 500; i++) await peer.call(`/${"y".repeat(300)}${i}`);
  await server.close();
  const logged = lines.filter(({ requests }) => requests !== undefined);
  expect(logged).toMatchObject([
    { path: "/first", requests: 1 },
    { path: `/${"y".repeat(199)}`, requests: 500 },
  ]);
});

it("refused and closed connections are summed up in the log", async () => {
  const lines: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>) });
  const server = await startServer({ maxConnections: 3, maxConnectionsPerAddress: 2 }, { log });
  const kept = [await enter("http2", server), await enter("http2", server)];
  for (let i = 0; i < 50; i++) await enter("http2", server).catch(() => undefined);
  const other = await enter("http2", server, "127.0.0.2");
  const last = await enter("http2", server, "127.0.0.3");
  expect(await last.call()).toBe(200);
  expect(kept.length + Number(other.isClosed)).toBeGreaterThan(1);
  await server.close();
  const summaries = lines.filter(({ refused }) => refused !== undefined);
  // At most one a minute, and what is left at the close.
  expect(summaries.length).toBeLessThanOrEqual(2);
  const sum = (of: "refused" | "closed", reason: string): number =>
    summaries.reduce((total, line) => total + ((line[of] as Record<string, number>)[reason] ?? 0), 0);
  expect(sum("refused", "address")).toBe(50);
  expect(sum("closed", "evicted")).toBe(1);
  expect((summaries[0]?.["addresses"] as unknown[])[0]).toMatchObject({ address: "127.0.0.1" });
});
