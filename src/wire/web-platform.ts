import type { Turns } from "./message-writer.ts";

/** A browser's event loop. Its timers wait for milliseconds when they are nested; messages to oneself do not. */
export function createWebTurns(): Turns {
  const { port1, port2 } = new MessageChannel();
  const waiting: (() => void)[] = [];
  port1.onmessage = () => {
    waiting.shift()?.();
  };
  const next = (run: () => void): void => {
    waiting.push(run);
    port2.postMessage(undefined);
  };
  return { defer: next, next };
}

export function allocate(size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(size);
}
