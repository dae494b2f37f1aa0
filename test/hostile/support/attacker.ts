/** Runs attacks on a server until it is ended: `attacker.ts TARGET NAME...`, where TARGET is JSON. */
import { setTimeout as sleep } from "node:timers/promises";
import { attacks } from "./attacks.ts";
import type { Target } from "./attacks.ts";

const [, , target = "{}", ...names] = process.argv;
const signal = AbortSignal.timeout(600_000);

// What an attack has not thought of must not end the others.
process.on("uncaughtException", () => undefined);
process.on("unhandledRejection", () => undefined);

process.on("disconnect", () => process.exit(0));

await Promise.all(
  names.map(async (name) => {
    const attack = attacks[name];
    if (attack === undefined) throw new Error(`there is no attack ${name}`);
    while (!signal.aborted) {
      try {
        await attack(JSON.parse(target) as Target, signal);
      } catch {
        // It is begun again.
      }
      await sleep(50);
    }
  }),
);
