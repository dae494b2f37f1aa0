import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import { expect, onTestFinished } from "vitest";
import { DataErrorSchema, DataError_Reason, DataService } from "../../gen/data/v1/data_pb.ts";
import { createTransport } from "./transports.ts";
import { storedTexts, useSluiceClient } from "./sluice-client.ts";

/** What one writer has stored in its stream, from the head on. */
interface Writer {
  readonly stream: string;
  stored: string[];
  head: number;
  sent: number;
}

/** Writers that fill a store and go on after refusals, each with a stream of its own, until the end of the test. */
export class Filling {
  readonly #url: string;
  readonly #data: Client<typeof DataService>;
  readonly #writers: Writer[];
  /** Appends that were refused so far. */
  refusals = 0;

  constructor(url: string, writers: number) {
    const made = createTransport({ protocol: "grpc", httpVersion: "2", tls: false }, url);
    onTestFinished(made.close);
    this.#url = url;
    this.#data = createClient(DataService, made.transport);
    this.#writers = Array.from({ length: writers }, (_, i) => ({ stream: `s${i}`, stored: [], head: 0, sent: 0 }));
  }

  /** Appends until so many more appends were refused, or stored. Resolves with the number of those that were stored. */
  async fill(until: { readonly refusals: number } | { readonly stored: number }): Promise<number> {
    const before = this.refusals;
    let stored = 0;
    const isOver = (): boolean =>
      "refusals" in until ? this.refusals - before >= until.refusals : stored >= until.stored;
    await Promise.all(
      this.#writers.map(async (writer) => {
        while (!isOver()) {
          const text = recordOf(writer);
          try {
            await this.#data.append({
              stream: writer.stream,
              createIfMissing: true,
              records: [{ data: Buffer.from(text) }],
            });
            writer.stored.push(text);
            stored++;
          } catch (error) {
            expectFull(error);
            this.refusals++;
          }
        }
      }),
    );
    return stored;
  }

  /** Trims each stream to the last of its records. */
  async trim(): Promise<void> {
    for (const writer of this.#writers.filter(({ stored }) => stored.length > 1)) {
      const gone = writer.stored.length - 1;
      writer.head += gone;
      writer.stored.splice(0, gone);
      await this.#data.trimStream({ name: writer.stream, beforeSeq: BigInt(writer.head) });
    }
  }

  /** Deletes the streams of half of the writers, which make them anew. */
  async deleteHalf(): Promise<void> {
    for (const writer of this.#writers.filter((_, i) => i % 2 === 0)) {
      if (writer.head + writer.stored.length > 0) await this.#data.deleteStream({ name: writer.stream });
      writer.stored = [];
      writer.head = 0;
    }
  }

  /** Each stream holds what was acknowledged, and nothing else. `url`: of another server with the same store. */
  async verify(url = this.#url): Promise<void> {
    const client = useSluiceClient(url);
    for (const { stream, stored, head } of this.#writers) {
      if (head + stored.length === 0) continue;
      const found = await storedTexts(client, stream);
      // Not `toEqual` on texts of megabytes: the difference would fill the screen.
      expect(found.length, `records of ${stream}`).toBe(stored.length);
      expect(
        found.findIndex((text, i) => text !== stored[i]),
        `first wrong record of ${stream}`,
      ).toBe(-1);
    }
  }
}

/** A record that no other one is equal to, of up to 60 kB. */
function recordOf(writer: Writer): string {
  const number = writer.sent++;
  const length = (Number(writer.stream.slice(1)) * 7919 + number * 104_729) % 60_000;
  return `${writer.stream}/${number}/`.padEnd(20 + length, "x");
}

function expectFull(error: unknown): void {
  const failure = ConnectError.from(error);
  expect(failure, failure.message).toMatchObject({ code: Code.ResourceExhausted });
  expect(failure.rawMessage).toMatch(/the disk of .* is full.*: free some space on it, or trim or delete streams/);
  expect(failure.findDetails(DataErrorSchema)).toMatchObject([{ reason: DataError_Reason.STORE_FULL }]);
}
