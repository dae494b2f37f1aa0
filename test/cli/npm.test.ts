import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { isRunByNpm } from "../../src/cli/npm-parent.ts";
import { spawnCli } from "../support/cli.ts";
import { until, within } from "../support/deadline.ts";

const root = join(import.meta.dirname, "../..");

interface NpmServer {
  readonly url: string;
  /** Of npm, not of the server. */
  readonly pid: number;
  /** Sends the signal to npm and to nobody else. */
  kill(signal: NodeJS.Signals): void;
  readonly output: string;
  /** npm's own end: its exit code, or a signal's name. */
  readonly ended: Promise<number | string>;
}

/** Starts a server as a user does, with npm, in a process group of its own. */
async function startWithNpm(command: readonly [string, ...string[]]): Promise<NpmServer> {
  const [program, ...args] = command;
  // What npm says of the run that this test is in.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_|SLUICE_)/i.test(name)));
  const child = spawn(program, args, {
    cwd: root,
    detached: true,
    env: { ...env, SLUICE_PORT: "0", SLUICE_STORE: "memory", SLUICE_DRAIN_TIMEOUT: "1h" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const { pid } = child;
  if (pid === undefined) throw new Error(`${program} could not be started`);
  const closed = once(child, "close");
  onTestFinished(async () => {
    try {
      process.kill(-pid, "SIGKILL");
    } catch {
      // The whole group is gone, as it should be.
    }
    await closed;
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (chunk: string) => (output += chunk));
  }
  const line = /^sluice listening on (\S+)$/m;
  await until(60_000, `${command.join(" ")} listens`, () => line.test(output) || child.exitCode !== null);
  const url = line.exec(output)?.[1];
  if (url === undefined) throw new Error(`${command.join(" ")} did not listen: ${output}`);
  return {
    url,
    pid,
    kill: (signal) => child.kill(signal),
    get output() {
      return output;
    },
    ended: once(child, "exit").then(([code, signal]) => (code ?? signal) as number | string),
  };
}

/** Whether any process of npm's group is there. */
function groupLives(pid: number): boolean {
  try {
    process.kill(-pid, 0);
    return true;
  } catch {
    return false;
  }
}

const start = ["npm", "start"] as const;
const run = ["npm", "run", "-s", "sluice", "--", "serve"] as const;
const npx = ["npx", "sluice", "serve"] as const;

// npx starts a shell, which goes on at SIGINT and after a SIGKILL of npm: a supervisor needs another command.
it.each([
  ["SIGTERM", start],
  ["SIGTERM", run],
  ["SIGTERM", npx],
  ["SIGINT", start],
  ["SIGINT", run],
] as const)("drains and ends when npm alone gets %s: %s", async (signal, command) => {
  const server = await startWithNpm(command);
  const greeting = ["greet", "Ada", "--shape", "repeatedly", "--times", "2", "--interval", "1s"];
  const caller = spawnCli([...greeting, "--url", server.url], { stdin: "" });
  await caller.printed(/Hello/);
  server.kill(signal);
  await until(20_000, "the drain", () => server.output.includes('"msg":"draining"'));
  // The call that runs may finish.
  expect((await within(20_000, "the call", caller.done)).stdout).toBe("Hello, Ada!\nHello, Ada!\n");
  await until(20_000, "the end of all of its processes", () => !groupLives(server.pid));
  expect(server.output).toContain('"msg":"closed"');
});

it.each([[start], [run]])("drains and ends when npm is killed, which passes nothing on: %s", async (command) => {
  const server = await startWithNpm(command);
  server.kill("SIGKILL");
  await until(20_000, "the end of all of its processes", () => !groupLives(server.pid));
  expect(server.output).toContain('"msg":"closed"');
});

it("drains at Ctrl-C, which the terminal sends to npm and to the server, and npm once more", async () => {
  const server = await startWithNpm(["npm", "start"]);
  const greeting = ["greet", "Ada", "--shape", "repeatedly", "--times", "2", "--interval", "1s"];
  const caller = spawnCli([...greeting, "--url", server.url], { stdin: "" });
  await caller.printed(/Hello/);
  process.kill(-server.pid, "SIGINT");
  expect((await within(20_000, "the call", caller.done)).stdout).toBe("Hello, Ada!\nHello, Ada!\n");
  expect(await within(20_000, "npm's end", server.ended)).toBe(0);
  await until(20_000, "the end of all of its processes", () => !groupLives(server.pid));
});

describe("isRunByNpm", () => {
  it.each([
    ["exec node bin/sluice.js serve", true],
    ["sluice", true],
    ["'sluice'", true],
    ["sluice serve --port 0", true],
    ["node ./node_modules/.bin/sluice serve", true],
    ["sluice serve & sleep 1", false],
    ["sluice serve; true", false],
    ["vitest run", false],
    ["node deploy.js", false],
  ])("%s: %s", (script, expected) => {
    expect(isRunByNpm({ npm_lifecycle_event: "start", npm_lifecycle_script: script })).toBe(expected);
    expect(isRunByNpm({ npm_lifecycle_script: script })).toBe(false);
  });
});
