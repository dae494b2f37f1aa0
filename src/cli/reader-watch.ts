import { fstatSync } from "node:fs";

/** How often the reader is looked for, in milliseconds. */
const intervalMs = 1_000;
/** How long one look may take if the pipe is full, in nanoseconds. */
const timeoutNs = 1_000_000n;

/**
 * Calls `onGone` once when nobody reads the pipe any more that the descriptor writes to. A write would tell by EPIPE; a
 * command that has nothing to write learns it only from poll(2), which Node offers in one place: `poll_oneoff` of
 * node:wasi. Where that is missing nothing is watched. Returns the cleanup; the watch does not keep the process alive.
 */
export function watchReader(descriptor: number, onGone: () => void): () => void {
  if (process.platform === "win32" || !isPipe(descriptor)) return () => undefined;
  let isGone: (() => boolean) | undefined;
  const look = async (): Promise<void> => {
    isGone ??= await createPoll(descriptor);
    if (!isGone()) return;
    clearInterval(timer);
    onGone();
  };
  const timer = setInterval(() => {
    look().catch(() => {
      clearInterval(timer);
    });
  }, intervalMs).unref();
  return () => {
    clearInterval(timer);
  };
}

function isPipe(descriptor: number): boolean {
  try {
    const stats = fstatSync(descriptor);
    return stats.isFIFO() || stats.isSocket();
  } catch {
    // It is closed.
    return false;
  }
}

/** Where the calls of the module below read and write its memory: two subscriptions, the events, and their number. */
const subscriptionsAt = 0;
const eventsAt = 128;
const countAt = 256;
const subscriptionBytes = 48;
/** Values of WASI preview 1 (`eventtype`). */
const clockEvent = 0;
const writeEvent = 2;

/** `(module (import poll_oneoff) (memory 1) (func (export "poll") (call $poll_oneoff subscriptions events 2 count)))` */
const module = Buffer.from(
  [
    "0061736d01000000", // magic, version
    "010d0260047f7f7f7f017f6000017f", // types: (i32 i32 i32 i32) -> i32, () -> i32
    `0226 01 16${hex("wasi_snapshot_preview1")} 0b${hex("poll_oneoff")} 0000`, // import
    "03020101", // one function
    "0503010001", // a memory of one page
    `0711 02 06${hex("memory")} 0200 04${hex("poll")} 0001`, // exports
    "0a10 010e 00 4100 418001 4102 418002 1000 0b", // code: the constants above, the call
  ]
    .join("")
    .replaceAll(" ", ""),
  "hex",
);

async function createPoll(descriptor: number): Promise<() => boolean> {
  const { WASI } = await import("node:wasi");
  const wasi = new WASI({ version: "preview1", stdout: descriptor });
  const { instance } = await WebAssembly.instantiate(module, wasi.getImportObject() as WebAssembly.Imports);
  wasi.initialize(instance);
  const { memory, poll } = instance.exports as { memory: WebAssembly.Memory; poll: () => number };
  const view = new DataView(memory.buffer);
  // Whether there is room to write to standard output (1), which is also told when there never will be.
  view.setUint8(subscriptionsAt + 8, writeEvent);
  view.setUint32(subscriptionsAt + 16, 1, true);
  // A timeout on the monotonic clock.
  view.setUint8(subscriptionsAt + subscriptionBytes + 8, clockEvent);
  view.setUint32(subscriptionsAt + subscriptionBytes + 16, 1, true);
  view.setBigUint64(subscriptionsAt + subscriptionBytes + 24, timeoutNs, true);
  return () => {
    if (poll() !== 0 || view.getUint32(countAt, true) === 0) return false;
    const error = view.getUint16(eventsAt + 8, true);
    const hungUp = (view.getUint16(eventsAt + 24, true) & 1) === 1;
    return view.getUint8(eventsAt + 10) === writeEvent && (error !== 0 || hungUp);
  };
}

function hex(text: string): string {
  return Buffer.from(text).toString("hex");
}
