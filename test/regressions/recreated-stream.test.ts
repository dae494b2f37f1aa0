import { Code } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { DataError_Reason as Reason, DataService } from "../../gen/data/v1/data_pb.ts";
import { Taker, dataErrorOf, failureOf, useClient } from "../support/calls.ts";
import { describeOnEachStore } from "../support/data-calls.ts";

const MiB = 1024 * 1024;

// A reader that was behind went on in the new stream, as if it were the old one.
describeOnEachStore("a stream that is deleted and made again under its name", (server) => {
  it("ends the readers of the old one, also those that were behind", async () => {
    const data = useClient(DataService, server().url);
    const stream = "again";
    const fill = async (byte: number): Promise<void> => {
      const records = [{ data: new Uint8Array(MiB / 2).fill(byte) }];
      for (let i = 0; i < 16; i++) await data.append({ stream, createIfMissing: true, records });
    };
    await fill(1);
    // More than any buffer on the way holds: the server waits for the reader, far from the tail.
    const reader = new Taker(data.read({ stream, follow: true }));
    await reader.take();
    await data.deleteStream({ name: stream });
    await fill(2);

    const seen = new Set<number>();
    const error = await failureOf(
      (async () => {
        for (;;) {
          const { message } = await reader.take();
          if (message.case === "caughtUp") throw new Error(`the read went on; it saw records of ${[...seen].join()}`);
          if (message.case !== "batch") continue;
          for (const record of message.value.records) seen.add(record.data[0] ?? 0);
        }
      })(),
    );
    expect(error.code).toBe(Code.FailedPrecondition);
    expect(dataErrorOf(error).reason).toBe(Reason.STREAM_REPLACED);
    expect([...seen]).toEqual([1]);
  });
});
