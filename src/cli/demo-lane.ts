import { createHash } from "node:crypto";
import type { SluiceClient } from "../client/index.ts";
import { toText } from "./records.ts";

/** What a demo sends: real bytes and real lines, whatever they are. */
export interface DemoData {
  readonly file: Uint8Array;
  readonly lines: readonly string[];
}

/** One call, or series of calls, of the demo. */
export interface DemoResult {
  readonly method: string;
  readonly shape: "unary" | "client" | "server" | "bidi";
  readonly messages: number;
  /** Payload both ways, in bytes. */
  readonly bytes: number;
  readonly seconds: number;
  /** What came back is what had to come back. */
  readonly right: boolean;
}

export interface DemoLane {
  readonly client: SluiceClient;
  /** Prefix of the streams that this lane makes. */
  readonly prefix: string;
  /** Bidi calls need HTTP/2. */
  readonly bidi: boolean;
  readonly signal: AbortSignal;
}

type Outcome = Pick<DemoResult, "messages" | "bytes" | "right">;

const unaryCalls = 200;
const streamedGreetings = 2000;
const maxNames = 1000;
const chunkBytes = 256 * 1024;
const batchLines = 10;

/** Runs every method that a lane can carry, one after the other. */
export async function* runLane(lane: DemoLane, data: DemoData): AsyncGenerator<DemoResult, void, undefined> {
  yield await measure("Greet", "unary", () => greet(lane));
  yield await measure("GreetAll", "client", () => greetAll(lane));
  yield await measure("GreetRepeatedly", "server", () => greetRepeatedly(lane));
  if (lane.bidi) yield await measure("GreetEach", "bidi", () => greetEach(lane));
  yield await measure("Append", "unary", () => append(lane, data));
  yield await measure("Upload", "client", () => upload(lane, data));
  yield await measure("Read", "server", () => read(lane, data));
  if (lane.bidi) yield await measure("Exchange", "bidi", () => exchange(lane, data));
}

async function measure(method: string, shape: DemoResult["shape"], work: () => Promise<Outcome>): Promise<DemoResult> {
  const startMs = performance.now();
  const outcome = await work();
  return { method, shape, ...outcome, seconds: (performance.now() - startMs) / 1000 };
}

async function greet({ client, signal }: DemoLane): Promise<Outcome> {
  let right = true;
  for (let i = 0; i < unaryCalls; i++) {
    const { greeting } = await client.greet.greet({ name: `Ada ${i}` }, { signal });
    right &&= greeting === `Hello, Ada ${i}!`;
  }
  return { messages: 2 * unaryCalls, bytes: 0, right };
}

async function greetAll({ client, signal }: DemoLane): Promise<Outcome> {
  const names = Array.from({ length: maxNames }, (_, i) => `Ada ${i}`);
  const { greeting } = await client.greet.greetAll(requests(names), { signal });
  const right = greeting === `Hello, ${names.slice(0, -1).join(", ")} and ${names.at(-1)}!`;
  return { messages: maxNames + 1, bytes: 0, right };
}

async function greetRepeatedly({ client, signal }: DemoLane): Promise<Outcome> {
  let count = 0;
  let right = true;
  for await (const { greeting } of client.greet.greetRepeatedly(
    { name: "Ada", times: streamedGreetings },
    { signal },
  )) {
    count++;
    right &&= greeting === "Hello, Ada!";
  }
  return { messages: count + 1, bytes: 0, right: right && count === streamedGreetings };
}

async function greetEach({ client, signal }: DemoLane): Promise<Outcome> {
  const names = Array.from({ length: streamedGreetings }, (_, i) => `Ada ${i}`);
  let count = 0;
  let right = true;
  for await (const { greeting } of client.greet.greetEach(requests(names), { signal })) {
    right &&= greeting === `Hello, Ada ${count++}!`;
  }
  return { messages: 2 * count, bytes: 0, right: right && count === streamedGreetings };
}

/** One batch after the other, each acknowledged before the next one leaves. */
async function append({ client, prefix, signal }: DemoLane, { lines }: DemoData): Promise<Outcome> {
  let calls = 0;
  let nextSeq = 0;
  let bytes = 0;
  for (let at = 0; at < lines.length; at += batchLines) {
    const records = lines.slice(at, at + batchLines).map((data) => ({ data }));
    const ack = await client.data.append(`${prefix}/append`, records, { createIfMissing: true, signal });
    nextSeq = Number(ack.nextSeq);
    bytes += sizeOf(records);
    calls++;
  }
  return { messages: 2 * calls, bytes, right: nextSeq === lines.length };
}

async function upload({ client, prefix, signal }: DemoLane, { file }: DemoData): Promise<Outcome> {
  const sha256 = createHash("sha256").update(file).digest();
  const response = await client.data.upload(
    `${prefix}/upload`,
    async function* (fromSeq) {
      for (let at = Number(fromSeq) * chunkBytes; at < file.byteLength; at += chunkBytes) {
        yield { data: file.subarray(at, at + chunkBytes) };
      }
    },
    { createIfMissing: true, producerId: "demo", seal: { sha256: () => new Uint8Array(sha256) }, signal },
  );
  const chunks = Math.ceil(file.byteLength / chunkBytes);
  const right = response.sealed && Number(response.tail) === chunks && sha256.equals(response.sha256);
  // The opening, the chunks, the seal, and the answer.
  return { messages: chunks + 3, bytes: file.byteLength, right };
}

/** Reads what `upload` stored. */
async function read({ client, prefix, signal }: DemoLane, { file }: DemoData): Promise<Outcome> {
  const hash = createHash("sha256");
  let bytes = 0;
  let messages = 0;
  for await (const { data } of client.data.read(`${prefix}/upload`, { signal })) {
    hash.update(data);
    bytes += data.byteLength;
    messages++;
  }
  const right = hash.digest().equals(createHash("sha256").update(file).digest());
  return { messages, bytes, right };
}

/** Batches go up without waiting for their acks, and every line comes back on the same call. */
async function exchange({ client, prefix, signal }: DemoLane, { lines }: DemoData): Promise<Outcome> {
  const call = client.data.exchange(`${prefix}/exchange`, { createIfMissing: true, read: { from: "head" }, signal });
  const seen: string[] = [];
  let sent = 0;
  let acked = 0;
  let bytes = 0;
  const finished = (): boolean => seen.length === lines.length && acked === sent;
  for (let at = 0; at < lines.length; at += batchLines) {
    const records = lines.slice(at, at + batchLines).map((data) => ({ data }));
    sent++;
    bytes += 2 * sizeOf(records);
    call.send(records).then(
      () => {
        acked++;
        // The last ack may come behind the last record.
        if (finished()) call.close();
      },
      // A failure ends the call, and is thrown below.
      () => undefined,
    );
  }
  try {
    for await (const event of call.events) {
      if (event.kind === "record") seen.push(toText(event.record.data));
      if (finished()) break;
    }
  } catch (error) {
    if (!finished()) throw error;
  }
  return { messages: 2 * sent + seen.length, bytes, right: seen.join("\n") === lines.join("\n") };
}

function sizeOf(records: readonly { data: string }[]): number {
  return records.reduce((sum, { data }) => sum + Buffer.byteLength(data), 0);
}

async function* requests(names: readonly string[]): AsyncGenerator<{ name: string }, void, undefined> {
  for (const name of names) yield { name };
}
