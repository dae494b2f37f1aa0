import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { expect } from "vitest";
import { GreetService } from "../../../gen/greet/v1/greet_pb.ts";
import { until, within } from "../../support/deadline.ts";
import { tlsFiles } from "../../support/http3.ts";
import { startServerProcess, useTlsArgs } from "../../support/server-process.ts";
import type { ServerProcess } from "../../support/server-process.ts";
import { Chance } from "./chance.ts";

/** How long each lane draws cases, in seconds. Longer by hand: SLUICE_TEST_FUZZ_SECONDS=600 npx vitest run test/hostile/fuzz */
const seconds = Number(process.env["SLUICE_TEST_FUZZ_SECONDS"] ?? 4);
/** Another seed, other cases: SLUICE_TEST_FUZZ_SEED=$RANDOM. */
const seed = Number(process.env["SLUICE_TEST_FUZZ_SEED"] ?? 20_261_125);
/** Only this case: SLUICE_TEST_FUZZ_CASE=1234. */
const only = process.env["SLUICE_TEST_FUZZ_CASE"];

/** Cases at once. */
const width = 8;

/** Milliseconds that a test of a lane may take. */
export const laneTimeoutMs = seconds * 1000 + 120_000;

const serverArgs = [
  ["--store", "memory"],
  ["--admin-port", "0"],
  ["--keepalive-interval", "1s"],
  ["--cors-origins", "https://app.example"],
  // All cases come from one address, which is not to be refused for them.
  ["--max-reset-rate", "1000000"],
].flat();

/**
 * Draws cases against a server process for a while. The server must answer a
 * healthy client throughout, be the same process afterwards, have met nothing
 * unexpected, and hold neither calls nor connections.
 */
export async function fuzzLane(
  name: string,
  options: { readonly tls: boolean; readonly args?: readonly string[] },
  run: (chance: Chance, server: ServerProcess, number: number) => Promise<void>,
): Promise<void> {
  const server = await startServerProcess([
    ...serverArgs,
    ...(options.tls ? await useTlsArgs() : []),
    ...(options.args ?? []),
  ]);
  const healthy = createClient(
    GreetService,
    createConnectTransport({
      baseUrl: server.url,
      httpVersion: "2",
      nodeOptions: { ca: tlsFiles.ca },
      interceptors: [
        (next) => (req) => {
          req.header.set("acme-token", "sample");
          return next(req);
        },
      ],
    }),
  );

  let number = only === undefined ? 0 : Number(only);
  const end = only === undefined ? Date.now() + seconds * 1000 : 0;
  async function work(): Promise<void> {
    do {
      const mine = number++;
      await run(new Chance(seed, mine), server, mine);
    } while (Date.now() < end);
  }
  let done = false;
  async function stayHealthy(): Promise<number> {
    let answers = 0;
    while (!done) {
      const what = `an answer (seed ${seed}, about case ${number})`;
      const { greeting } = await within(10_000, what, healthy.greet({ name: "Ada" }));
      expect(greeting).toBe("Hello, Ada!");
      answers++;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return answers;
  }
  const answers = stayHealthy();
  try {
    await Promise.race([Promise.all(Array.from({ length: only === undefined ? width : 1 }, work)), answers]);
    done = true;
    expect(await answers).toBeGreaterThan(0);
  } catch (error) {
    throw new Error(`about case ${number} (seed ${seed}): ${await stateOf(server)}`, { cause: error });
  }
  console.log(`${name}: ${number} cases`);

  await until(30_000, "the end of all calls", async () => (await server.metric("sluice_calls_active")) === 0);
  // The healthy client's.
  await until(30_000, "the end of all connections", async () => (await server.metric("sluice_connections")) <= 1);
  expect(await server.metric("sluice_unexpected_errors_total")).toBe(0);
  expect(server.log.split("\n").filter((line) => /"level":[56]0/.test(line))).toEqual([]);
  server.kill("SIGTERM");
  expect(await within(20_000, "the end of the process", server.exited)).toBe(0);
}

/** A client sees of the end of a process only the end of its connection. */
async function stateOf(server: ServerProcess): Promise<string> {
  const running = new Promise<string>((resolve) => setTimeout(resolve, 1000, "runs"));
  const ended = server.exited.then((code) => `has ended with ${code}`);
  return `the server ${await Promise.race([ended, running])}, and has logged: ${server.log.slice(-10_000)}`;
}
