import { create } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { DataService, ExchangeRequestSchema } from "../../gen/data/v1/data_pb.ts";
import type { ExchangeRequest } from "../../gen/data/v1/data_pb.ts";
import { deferred, within } from "../support/deadline.ts";
import { startServerProcess } from "../support/server-process.ts";
import { createTransport } from "../support/transports.ts";

const rounds = 6;
const uploads = 12;
const batchSize = 7;
/** Acks to wait for before the kill; differs between the rounds, so that it strikes at different moments. */
const acksBefore = (round: number): number => 20 + 61 * round;

interface Upload {
  readonly stream: string;
  /** What was sent, by batch; each record is numbered. */
  readonly sent: string[][];
  readonly acked: { firstSeq: bigint; batch: string[] }[];
}

it(
  `loses no acked record and tears no batch when it is killed in the middle of ${uploads} uploads, ${rounds} times`,
  { timeout: 600_000 },
  async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "sluice-crash-"));
    onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
    const history: Upload[] = [];
    let ackedInAll = 0;
    for (let round = 0; round < rounds; round++) {
      const server = await startServerProcess([], { dataDir });
      const made = createTransport({ protocol: "grpc", httpVersion: "2", tls: false }, server.url);
      const data = createClient(DataService, made.transport);
      await check(data, history);
      const enough = deferred();
      let acks = 0;
      const running = Array.from({ length: uploads }, async (_, n) => {
        const upload: Upload = { stream: `round-${round}/upload-${n}`, sent: [], acked: [] };
        history.push(upload);
        async function* requests(): AsyncGenerator<ExchangeRequest> {
          yield create(ExchangeRequestSchema, {
            message: { case: "open", value: { stream: upload.stream, createIfMissing: true } },
          });
          for (;;) {
            const batch = Array.from({ length: batchSize }, (_, i) => `${upload.stream} ${upload.sent.length}.${i}`);
            upload.sent.push(batch);
            yield create(ExchangeRequestSchema, {
              message: { case: "append", value: { records: batch.map((text) => ({ data: Buffer.from(text) })) } },
            });
          }
        }
        for await (const { message } of data.exchange(requests())) {
          if (message.case !== "ack") continue;
          const batch = upload.sent[upload.acked.length];
          if (batch === undefined) throw new Error("an ack for nothing");
          upload.acked.push({ firstSeq: message.value.firstSeq, batch });
          if (++acks === acksBefore(round)) enough.resolve();
        }
      });
      // Observed from now on: the calls fail as soon as the server is killed.
      const settled = Promise.allSettled(running);
      await within(60_000, "enough acks", enough.promise);
      server.kill("SIGKILL");
      expect(await within(10_000, "the exit", server.exited)).toBe("SIGKILL");
      await within(30_000, "the end of the uploads", settled);
      made.close();
      ackedInAll += acks;
    }
    const server = await startServerProcess([], { dataDir });
    const made = createTransport({ protocol: "grpc", httpVersion: "2", tls: false }, server.url);
    onTestFinished(made.close);
    await check(createClient(DataService, made.transport), history);
    expect(ackedInAll).toBeGreaterThan(rounds * 20);
  },
);

/** Compares what is stored with what was sent and acked. */
async function check(
  data: ReturnType<typeof createClient<typeof DataService>>,
  history: readonly Upload[],
): Promise<void> {
  for (const { stream, sent, acked } of history) {
    const stored: string[] = [];
    if (sent.length === 0 || (acked.length === 0 && !(await exists(data, stream)))) continue;
    for await (const { message } of data.read({ stream })) {
      if (message.case !== "batch") continue;
      expect(message.value.firstSeq).toBe(BigInt(stored.length));
      for (const record of message.value.records) stored.push(Buffer.from(record.data).toString());
    }
    for (const { firstSeq, batch } of acked) {
      expect(stored.slice(Number(firstSeq), Number(firstSeq) + batchSize)).toEqual(batch);
    }
    // Whole batches only, in the order in which they were sent.
    expect(stored).toEqual(sent.slice(0, stored.length / batchSize).flat());
  }
}

async function exists(data: ReturnType<typeof createClient<typeof DataService>>, stream: string): Promise<boolean> {
  return data.getStream({ name: stream }).then(
    () => true,
    () => false,
  );
}
