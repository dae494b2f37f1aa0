import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { buildDir } from "./contenders.ts";
import { startProgram } from "./server-process.ts";

export interface LossyLink {
  readonly serverHost: string;
  /** Put before a command, they run it at one end. */
  readonly atServer: readonly string[];
  readonly atClient: readonly string[];
  readonly remove: () => Promise<void>;
}

export interface LossyLinkOptions {
  /** Part of the packets that is lost, in each direction. */
  readonly loss: number;
  /** How long the others take, in each direction, in milliseconds. */
  readonly delayMs: number;
  readonly seed: number;
}

const device = "lossy0";
/** Of no network but this one (RFC 5737). */
const serverHost = "192.0.2.1";
const clientHost = "192.0.2.2";

/** What carries packets over an Ethernet. */
const mtu = 1500;

/**
 * Two network namespaces with a link that loses packets between them: bench/go/lossylink, as not every kernel has
 * netem. They are removed when the process ends, however it does, unless it is killed at once.
 */
export async function createLossyLink({ loss, delayMs, seed }: LossyLinkOptions): Promise<LossyLink> {
  if (process.getuid?.() !== 0) throw new Error("network namespaces need root");
  const names = { server: `sluice-bench-${process.pid}-server`, client: `sluice-bench-${process.pid}-client` };
  const added: string[] = [];
  const removeNamespaces = (): void => {
    for (const name of added.splice(0)) ip("netns", "delete", name);
  };
  process.once("exit", removeNamespaces);
  try {
    for (const name of Object.values(names)) {
      ip("netns", "add", name);
      added.push(name);
      ip("-n", name, "link", "set", "dev", "lo", "up");
    }
    const args = [`-a=${names.server}`, `-b=${names.client}`, `-device=${device}`, `-loss=${loss}`, `-seed=${seed}`];
    const link = await startProgram([join(buildDir, "lossylink"), ...args, `-delay=${delayMs}ms`], async (output) => {
      await once(createInterface({ input: output }), "line");
      return "";
    });
    setUp(names.server, serverHost);
    setUp(names.client, clientHost);
    return {
      serverHost,
      atServer: ["ip", "netns", "exec", names.server],
      atClient: ["ip", "netns", "exec", names.client],
      async remove() {
        await link.stop();
        process.off("exit", removeNamespaces);
        removeNamespaces();
      },
    };
  } catch (error) {
    removeNamespaces();
    throw error;
  }
}

function setUp(namespace: string, address: string): void {
  ip("-n", namespace, "address", "add", `${address}/30`, "dev", device);
  ip("-n", namespace, "link", "set", "dev", device, "mtu", String(mtu), "up");
}

function ip(...args: string[]): void {
  try {
    execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"], timeout: 10_000 });
  } catch (cause) {
    throw new Error(`ip ${args.join(" ")} failed: is iproute2 installed?`, { cause });
  }
}
