import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { afterAll, beforeAll, describe } from "vitest";
import type {
  AppendBatchSchema,
  DataService,
  ExchangeRequestSchema,
  ExchangeResponse,
  ReadResponse,
  RecordBatch,
  UploadResponse,
} from "../../gen/data/v1/data_pb.ts";
import type { Server } from "../../src/compose.ts";
import { collect, requests } from "./calls.ts";
import { startServer } from "./server.ts";

/** Runs the tests on a server with each store; `server()` is there once they run. */
export function describeOnEachStore(what: string, tests: (server: () => Server) => void): void {
  for (const store of ["memory", "lmdb"] as const) {
    describe(`${what} (${store})`, () => {
      let server: Server | undefined;
      let dataDir: string;
      beforeAll(async () => {
        dataDir = await mkdtemp(join(tmpdir(), "sluice-services-"));
        server = await startServer({ store, dataDir });
      });
      afterAll(async () => {
        await server?.close();
        await rm(dataDir, { recursive: true, force: true });
      });
      tests(() => {
        if (server === undefined) throw new Error("the server has not started");
        return server;
      });
    });
  }
}

export function recordsOf(...texts: string[]): { data: Uint8Array }[] {
  return texts.map((text) => ({ data: Buffer.from(text) }));
}

/** Stores one batch, in a stream that is made if need be. */
export async function put(client: Client<typeof DataService>, stream: string, ...texts: string[]): Promise<void> {
  await client.append({ stream, createIfMissing: true, records: recordsOf(...texts) });
}

/** One message as a line, such as `0: a, b`, `caught_up 2` or `ack 0-2`. */
export function line({ message }: ReadResponse | ExchangeResponse): string {
  switch (message.case) {
    case "batch":
      return `${message.value.firstSeq}: ${textsOf(message.value).join(", ")}`;
    case "caughtUp":
      return `caught_up ${message.value.tail}`;
    case "heartbeat":
    case "sealed":
    case "opened":
      return `${message.case} ${message.value.tail}`;
    case "ack": {
      const { firstSeq, nextSeq, duplicate } = message.value;
      return `ack ${firstSeq}-${nextSeq}${duplicate ? " again" : ""}`;
    }
    case undefined:
      return "nothing";
  }
}

export function textsOf(batch: RecordBatch): string[] {
  return batch.records.map(({ data }) => Buffer.from(data).toString());
}

/** What Upload and Exchange have in common. */
export interface UploadInit {
  message?: { case: "open"; value: OpenInit } | { case: "append"; value: AppendInit };
}
interface OpenInit {
  stream?: string;
  createIfMissing?: boolean;
  producer?: { id: string; epoch?: bigint };
  expectedSeq?: bigint;
}
type AppendInit = MessageInitShape<typeof AppendBatchSchema>;
export type ExchangeInit = MessageInitShape<typeof ExchangeRequestSchema>;

/** The first message of an Upload or an Exchange. */
export function open(value: OpenInit): { message: { case: "open"; value: OpenInit } } {
  return { message: { case: "open", value } };
}

/** A later message of an Upload or an Exchange. */
export function append(value: AppendInit): { message: { case: "append"; value: AppendInit } } {
  return { message: { case: "append", value } };
}

/** Every record that is kept, as text. */
export async function stored(data: Client<typeof DataService>, stream: string): Promise<string[]> {
  const messages = await collect(data.read({ stream }));
  return messages.flatMap(({ message }) => (message.case === "batch" ? textsOf(message.value) : []));
}

/** A whole Upload. */
export function upload(data: Client<typeof DataService>, ...messages: UploadInit[]): Promise<UploadResponse> {
  return data.upload(requests(...messages).ended());
}

/** An Exchange whose requests are known beforehand. */
export function exchange(data: Client<typeof DataService>, ...messages: UploadInit[]): AsyncIterable<ExchangeResponse> {
  return data.exchange(requests(...messages).ended());
}
