import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it, onTestFinished } from "vitest";
import { DataError_Reason as Reason } from "../../gen/data/v1/data_pb.ts";
import { dataErrorOf } from "../../src/client/index.ts";
import { runCli } from "../support/cli.ts";
import { flipBits, useFilledStore } from "../support/damaged-store.ts";
import { reasonOf } from "../support/data-errors.ts";
import { within } from "../support/deadline.ts";
import { startServerProcess } from "../support/server-process.ts";
import { startServer } from "../support/server.ts";
import { clientLanes, useSluiceClient } from "../support/sluice-client.ts";

/** A server whose stream "s" has ten records, of which seq 4 and 5 are damaged. */
async function useDamagedServer(): Promise<string> {
  const dataDir = await useFilledStore();
  await flipBits(dataDir, "second of 2");
  const server = await startServer({ store: "lmdb", dataDir });
  onTestFinished(() => server.close());
  return server.url;
}

describe("records that are damaged on the disk", () => {
  it.each(clientLanes)("end a read with DATA_LOSS, and say where to go on: %j", async (lane) => {
    const { data } = useSluiceClient(await useDamagedServer(), lane);
    const texts: string[] = [];
    const retries: string[] = [];
    const readAll = async (from: number): Promise<void> => {
      for await (const record of data.read("s", {
        from: { seq: from },
        onRetry: (error) => retries.push(error.message),
      })) {
        texts.push(Buffer.from(record.data).toString());
      }
    };
    const failure: unknown = await within(10_000, "the failure", readAll(0)).catch((error: unknown) => error);
    expect(ConnectError.from(failure).code).toBe(Code.DataLoss);
    expect(dataErrorOf(failure)).toMatchObject({ reason: Reason.RECORDS_DAMAGED, stream: "s", nextSeq: 6n, tail: 10n });
    expect(texts).toEqual(["first of 0", "second of 0", "first of 1", "second of 1"]);
    await within(10_000, "the rest", readAll(6));
    expect(texts).toHaveLength(8);
    expect(retries).toEqual([]);
  });

  it("are logged once, however often they are asked for", async () => {
    const dataDir = await useFilledStore();
    await flipBits(dataDir, "second of 2");
    const server = await startServerProcess([], { dataDir });
    const { data } = useSluiceClient(server.url, clientLanes[0]);
    for (let i = 0; i < 20; i++) {
      const records = data.read("s", { from: { seq: 4 } })[Symbol.asyncIterator]();
      expect(await reasonOf(records.next())).toBe("RECORDS_DAMAGED");
    }
    await server.logged(/damaged records were asked for/);
    expect(server.log.match(/damaged records were asked for/g)).toHaveLength(1);
    expect(server.log).not.toMatch(/unexpected error/);
  });

  it("end the commands that read them with a sentence, and exit 7", async () => {
    const url = await useDamagedServer();
    for (const args of [
      ["pull", "s", "-o", "-"],
      ["tail", "s", "--from", "head", "--no-follow"],
    ]) {
      const { code, stderr } = await runCli([...args, "--url", url]);
      expect(stderr).toMatch(/records from seq 4 to 5 are damaged .*: read on from seq 6/);
      expect(code).toBe(7);
    }
  });
});
