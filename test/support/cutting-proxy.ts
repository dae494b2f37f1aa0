import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { onTestFinished } from "vitest";

/** A TCP proxy that cuts connections at pseudo-random places, in both directions. */
export interface CuttingProxy {
  readonly url: string;
  /** Connections cut so far. */
  readonly cuts: number;
  /** From now on everything passes. */
  heal(): void;
  /** Where connections lead from now on: to a server that has taken another's place. */
  retarget(url: string): void;
  /** Cuts every connection now. */
  cutAll(): void;
  close(): Promise<void>;
}

/** Where nobody listens. */
export const nowhere = "http://127.0.0.1:1";

/** Mulberry32, so that a seed gives the same cuts again. */
export function random(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/**
 * Until the end of the test. `meanBytes`: how many bytes pass, on average, before a cut. One that does not cut keeps
 * the port of a server that is replaced: nobody else can take it meanwhile.
 */
export async function useProxy(target: string, seed = 1, meanBytes = Infinity): Promise<CuttingProxy> {
  const proxy = await createCuttingProxy(target, seed, meanBytes);
  onTestFinished(() => proxy.close());
  return proxy;
}

async function createCuttingProxy(target: string, seed: number, meanBytes: number): Promise<CuttingProxy> {
  let { hostname, port } = new URL(target);
  const next = random(seed);
  const open = new Set<Socket>();
  let cuts = 0;
  let healed = false;
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    let left = meanBytes === Infinity ? Infinity : Math.ceil(2 * meanBytes * next());
    const cut = (): void => {
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    };
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(from);
      from.on("error", () => undefined);
      from.on("close", () => {
        open.delete(from);
        to.destroy();
      });
      from.on("data", (chunk: Buffer) => {
        if (!healed && chunk.byteLength >= left) {
          // What comes before the cut still arrives, so that it strikes within messages too.
          to.write(chunk.subarray(0, left), cut);
          left = 0;
          cuts++;
          return;
        }
        if (!healed) left -= chunk.byteLength;
        if (!to.write(chunk)) {
          from.pause();
          to.once("drain", () => from.resume());
        }
      });
      from.on("end", () => to.end());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get cuts() {
      return cuts;
    },
    heal() {
      healed = true;
    },
    retarget(url) {
      ({ hostname, port } = new URL(url));
    },
    cutAll() {
      for (const socket of open) socket.resetAndDestroy();
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        for (const socket of open) socket.destroy();
      }),
  };
}
