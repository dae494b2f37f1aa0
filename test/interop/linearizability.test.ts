import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { Chance } from "../hostile/fuzz/chance.ts";
import { jsonLines } from "../support/cli.ts";
import { until, within } from "../support/deadline.ts";
import { startServerProcess } from "../support/server-process.ts";
import { useGoPrograms } from "./support/go.ts";
import { useProgram } from "./support/programs.ts";
import type { Program } from "./support/programs.ts";

const program = useGoPrograms("historyclient", "historycheck");

/** Longer by hand: SLUICE_TEST_LINEARIZABILITY_SECONDS=600 npm run interop -- linearizability */
const seconds = Number(process.env["SLUICE_TEST_LINEARIZABILITY_SECONDS"] ?? 0);
/** What the clients ask and after how many operations a kill comes; how they interleave is the machine's. */
const seed = Number(process.env["SLUICE_TEST_LINEARIZABILITY_SEED"] ?? 20_261_125);

/** Kills of the server, at least. */
const kills = 4;
const clients = ["a", "b"];
/** Operations of each client between two kills. */
const operations = { least: 100, most: 500 };
/** Kills after which the clients go on to other streams, so that a history is short enough to be checked. */
const killsPerStreams = 4;
/** Milliseconds that the check of one stream may take. */
const checkTimeoutMs = 120_000;

interface CheckResult {
  readonly result: "Ok" | "Illegal" | "Unknown";
  readonly streams: number;
  readonly operations: number;
  readonly lost: number;
  readonly outcomes: Readonly<Record<string, number>>;
  readonly stream?: string;
  readonly explanation?: string;
  readonly visualization?: string;
}

interface Clients {
  /** Resolves once each client has done so many operations more. */
  more(count: number): Promise<void>;
  /** Lets them go on to other streams. */
  changeStreams(): void;
  /** Ends them, and checks what they asked and were answered. */
  check(): Promise<CheckResult>;
}

/** Starts processes that call the server at random, each over every protocol, on connections of their own. */
async function useClients(url: string): Promise<Clients> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-history-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const done = new Map<Program, number>();
  const files = clients.map((name) => join(dir, name));
  const running = clients.map((name, i) => {
    const options = { name, out: files[i] ?? "", seed: String(seed + i) };
    const flags = Object.entries(options).map(([flag, value]) => `-${flag}=${value}`);
    const client: Program = useProgram(program("historyclient"), [...flags, new URL(url).host], {
      onLine: (line) => done.set(client, Number(line)),
    });
    void client.done.then(() => done.set(client, Infinity));
    return client;
  });
  const doneBy = (client: Program): number => done.get(client) ?? 0;
  return {
    async more(count) {
      const goals = running.map((client) => doneBy(client) + count);
      await until(60_000, `${count} operations of each client`, () =>
        running.every((client, i) => doneBy(client) >= (goals[i] ?? 0)),
      );
    },
    changeStreams() {
      for (const client of running) client.write("\n");
    },
    async check() {
      for (const client of running) client.end();
      for (const client of running) {
        const code = await within(60_000, "the end of a client", client.done);
        expect([code, client.stderr]).toEqual([0, ""]);
      }
      const args = [`-timeout=${checkTimeoutMs}ms`, ...files];
      const checker = useProgram(program("historycheck"), args);
      const code = await within(10 * checkTimeoutMs, "the end of the check", checker.done);
      expect([code, checker.stderr]).toEqual([0, ""]);
      const [result] = jsonLines(checker.stdout) as unknown as [CheckResult];
      return result;
    },
  };
}

/** Fails with what Porcupine found. */
function expectLinearizable(found: CheckResult): void {
  const { result, stream, explanation, visualization } = found;
  if (result !== "Ok") {
    const seen = `${stream ?? ""} (seed ${seed}, see ${visualization ?? ""})`;
    throw new Error(
      result === "Illegal"
        ? `the history of ${seen} is not linearizable. The longest order ends with\n${explanation ?? ""}`
        : `the history of ${seen} could not be checked within ${checkTimeoutMs} ms`,
    );
  }
  // Each kind was asked for, and refused as well.
  for (const kind of ["append", "create", "delete", "get", "open", "read", "seal"]) {
    expect(found.outcomes[`${kind} OK`], kind).toBeGreaterThan(0);
  }
  for (const refusal of [
    "append SEQ_MISMATCH",
    "append STREAM_NOT_FOUND",
    "append STREAM_SEALED",
    "seal SEQ_MISMATCH",
  ]) {
    expect(found.outcomes[refusal], refusal).toBeGreaterThan(0);
  }
}

it(
  "what connect-go and grpc-go clients ask is linearizable, though the server is killed again and again",
  { timeout: seconds * 1000 + 10 * 60_000 },
  async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "sluice-linearizability-"));
    onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
    const chance = new Chance(seed, 0);
    let server = await startServerProcess([], { dataDir });
    const { port } = new URL(server.url);
    const calls = await useClients(server.url);
    const between = (): number => operations.least + chance.below(operations.most - operations.least);
    const end = Date.now() + seconds * 1000;
    let killed = 0;
    while (killed < kills || Date.now() < end) {
      await calls.more(between());
      server.kill("SIGKILL");
      expect(await within(10_000, "the exit", server.exited)).toBe("SIGKILL");
      if (++killed % killsPerStreams === 0) calls.changeStreams();
      server = await startServerProcess(["--port", port], { dataDir });
    }
    await calls.more(between());
    const found = await calls.check();
    console.log(JSON.stringify({ seed, kills: killed, ...found, outcomes: undefined }));
    expectLinearizable(found);
    expect(found.lost).toBeGreaterThan(0);
  },
);

it("the same with a store in memory", { timeout: 10 * 60_000 }, async () => {
  const server = await startServerProcess(["--store", "memory"]);
  const calls = await useClients(server.url);
  await calls.more(operations.most);
  expectLinearizable(await calls.check());
});
