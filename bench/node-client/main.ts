/**
 * The load client for where Go is absent: like bench/go/load, on node:http2.
 * It is slower than some servers, so the report says that it was used.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { connectTo } from "./connection.ts";
import { Load } from "./load.ts";
import { workers } from "./shapes.ts";
import type { Shape } from "../cases.ts";

/** USER_HZ: what Linux shows to programs, on every platform (man 5 proc). */
const ticksPerSecond = 100;

const text = { type: "string" } as const;
const { values } = parseArgs({
  options: {
    target: { ...text, default: "" },
    pid: { ...text, default: "" },
    shape: { ...text, default: "download" },
    size: { ...text, default: "100" },
    streams: { ...text, default: "1" },
    connections: { ...text, default: "1" },
    batch: { ...text, default: "0" },
    warmup: { ...text, default: "1s" },
    duration: { ...text, default: "2s" },
    drain: { ...text, default: "5s" },
    token: text,
  },
});
const streams = Number(values.streams);
const batch = Number(values.batch);
const load = new Load(Number(values.size));
const connections = await Promise.all(
  Array.from({ length: Number(values.connections) }, () => connectTo(values.target, values.token)),
);
const worker = workers[values.shape as Shape];
writeFileSync(`/proc/${values.pid}/clear_refs`, "5");

const run = (messages: number): Promise<void>[] =>
  Array.from({ length: streams }, async (_, i) => {
    const connection = connections[i % connections.length];
    if (connection !== undefined) await worker(load, connection, messages);
  });
const [before, after, drained] = batch > 0 ? await batches() : await timed();
const messages = after.messages - before.messages;
if (messages === 0) throw new Error("no message passed within the measurement");
const p50 = load.quantile(0.5);
const result = {
  messages,
  bytes: messages * load.size,
  seconds: (after.at - before.at) / 1000,
  serverCpuSeconds: after.server - before.server,
  clientCpuSeconds: after.client - before.client,
  peakMemoryBytes: peakMemory(),
  ...(p50 === undefined ? {} : { p50Seconds: p50, p99Seconds: load.quantile(0.99) }),
  drained,
};
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit());

type Snapshot = ReturnType<typeof snapshot>;

/** Streams without an end, in the middle of their flow. */
async function timed(): Promise<[Snapshot, Snapshot, boolean]> {
  const all = Promise.all(run(Infinity));
  await Promise.race([all, wait(values.warmup)]);
  const start = snapshot();
  load.measuring = true;
  await Promise.race([all, wait(values.duration)]);
  load.measuring = false;
  const end = snapshot();
  load.stopped = true;
  const inOrder = await Promise.race([all.then(() => true), wait(values.drain).then(() => false)]);
  all.catch(() => undefined);
  return [start, end, inOrder];
}

/** Streams of a fixed length, from the start of the first to the end of the last, as often as there is time. */
async function batches(): Promise<[Snapshot, Snapshot, boolean]> {
  const repeat = async (length: number, atLeast: number): Promise<void> => {
    const end = performance.now() + atLeast;
    do await Promise.all(run(length));
    while (performance.now() < end);
  };
  await repeat(Math.max(1, Math.floor(batch / 10)), milliseconds(values.warmup));
  const start = snapshot();
  load.measuring = true;
  await repeat(batch, milliseconds(values.duration));
  return [start, snapshot(), true];
}

function snapshot() {
  const { user, system } = process.cpuUsage();
  return { at: performance.now(), messages: load.messages, server: serverCpu(), client: (user + system) / 1e6 };
}

function serverCpu(): number {
  const stat = readFileSync(`/proc/${values.pid}/stat`, "utf8");
  // The name, in parentheses, may have spaces in it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

function peakMemory(): number {
  const kib = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${values.pid}/status`, "utf8"))?.[1];
  return Number(kib) * 1024;
}

function wait(time: string): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds(time)));
}

/** `0.5s` */
function milliseconds(time: string): number {
  return Number.parseFloat(time) * 1000;
}
